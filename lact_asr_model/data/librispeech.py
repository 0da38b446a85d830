"""The LibriSpeech layout: SUBSET/SPEAKER/CHAPTER/ with audio files beside one `*.trans.txt`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lact_asr_model.audio import AUDIO_SUFFIXES
from lact_asr_model.data.utterance import Entry, Reading, Utterance
from lact_asr_model.errors import UserError
from lact_asr_model.text import read_text_file


def read_librispeech(data_dir: str | Path, subset: str) -> list[Utterance]:
    """Utterances of data_dir/subset or data_dir/LibriSpeech/subset, in the order of their ids.

    The audio may be any of `AUDIO_SUFFIXES`. Raises UserError when the subset or a recording is missing.
    """
    return [make() for make in librispeech_entries(data_dir, subset, Reading())]


def librispeech_entries(data_dir: str | Path, subset: str, reading: Reading) -> list[Entry]:
    """The utterances of `read_librispeech`, not yet made. Raises UserError when the subset is missing."""
    roots = [Path(data_dir), Path(data_dir) / "LibriSpeech"]
    subset_dir = next((root / subset for root in roots if (root / subset).is_dir()), None)
    transcripts = sorted(subset_dir.glob("*/*/*.trans.txt")) if subset_dir else []
    if not transcripts:
        raise UserError(f"{data_dir}: no LibriSpeech subset '{subset}'; {_advice(roots)}")
    found = [line for transcript in transcripts for line in _read_chapter(transcript)]
    found.sort(key=lambda line: line[1])
    return [partial(_make, *line, reading) for line in found]


def _read_chapter(transcript: Path) -> Iterator[tuple[Path, str, str, Path | None]]:
    """The transcript file, an utterance's id and text, and its recording if there is one."""
    audio_paths = {path.stem: path for path in transcript.parent.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES}
    for line in read_text_file(transcript).splitlines():
        utterance_id, _, text = line.strip().partition(" ")
        if utterance_id:
            yield transcript, utterance_id, text, audio_paths.get(utterance_id)


def _make(transcript: Path, utterance_id: str, text: str, audio_path: Path | None, reading: Reading) -> Utterance:
    if audio_path is None:
        raise UserError(f"{transcript}: no audio file for '{utterance_id}' beside it; unpack the subset again")
    normalized, lost_words = reading.transcript(text)
    return Utterance(
        id=utterance_id,
        audio_path=audio_path,
        text=normalized,
        duration_seconds=reading.file_seconds(audio_path),
        speaker=utterance_id.partition("-")[0],
        lost_words=lost_words,
    )


def _advice(roots: list[Path]) -> str:
    found = {transcript.parents[2].name for root in roots for transcript in root.glob("*/*/*/*.trans.txt")}
    if not found:
        return "no subset at all is there, check the folder"
    return f"choose one of: {', '.join(sorted(found))}"
