"""Lhotse manifests of cuts: stretches of recordings, with what was said in them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from lact_asr_model.data.embedded import DATA_EXTRA
from lact_asr_model.data.utterance import Entry, Reading, Utterance, check_segment
from lact_asr_model.errors import UserError

_SAVE_AUDIO = "write it with lhotse's CutSet.save_audios and give those cuts"


def is_cuts(path: Path) -> bool:
    """Whether a file of JSON lines holds cuts, by its first line; one that is compressed holds nothing else."""
    if path.suffix == ".gz":
        return True
    try:
        with path.open(encoding="utf-8") as file:
            return str(json.loads(file.readline()).get("type")).endswith("Cut")
    except (OSError, ValueError, AttributeError):
        return False


def cut_entries(path: Path, reading: Reading) -> list[Entry]:
    """The utterances of a manifest of cuts, not yet made.

    Paths are relative to the working directory, as for Lhotse, or to the manifest. The supervisions of a cut are one
    transcript, in the order of their times.

    Raises:
        UserError: Lhotse is not installed, or cannot read the file.
    """
    try:
        from lhotse.serialization import load_jsonl
    except ImportError:
        raise UserError(f"{path}: to read Lhotse's cuts, {DATA_EXTRA}") from None
    try:
        items = list(load_jsonl(path))
    except Exception as error:  # of gzip, zlib and JSON
        raise UserError(f"{path}: cannot be read as lines of JSON ({error}); copy or write it again") from None
    return [partial(_make, item, f"{path} line {number}", path.parent, reading) for number, item in enumerate(items, 1)]


def _make(item: dict[str, Any], place: str, folder: Path, reading: Reading) -> Utterance:
    from lhotse.serialization import deserialize_item

    try:
        cut = deserialize_item(item)
    except Exception as error:  # whatever is missing in it
        raise UserError(f"{place}: is not an item of Lhotse ({error!r}); write the manifest again") from None
    try:
        return _utterance(cut, folder, reading)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def _utterance(cut: Any, folder: Path, reading: Reading) -> Utterance:
    from lhotse import MonoCut, MultiCut

    if not isinstance(cut, MonoCut | MultiCut):
        remedy = _SAVE_AUDIO if type(cut).__name__.endswith("Cut") else "make cuts with CutSet.from_manifests"
        raise UserError(f"is a {type(cut).__name__}, not a stretch of a recording; {remedy}")
    recording = cut.recording
    if recording is None or [source.type for source in recording.sources] != ["file"]:
        raise UserError(f"cut {cut.id} is not of one audio file; {_SAVE_AUDIO}")
    all_channels = recording.sources[0].channels
    if isinstance(cut, MultiCut) and sorted(cut.channel) != sorted(all_channels):
        raise UserError(f"cut {cut.id} is of some channels of its recording; make a cut of each with MultiCut.to_mono")
    if any(not _is_resampling(transform) for transform in recording.transforms or []):
        raise UserError(f"cut {cut.id} changes its recording; {_SAVE_AUDIO}")
    name = recording.sources[0].source
    audio_path = next(filter(Path.is_file, (Path(name), folder / name)), None)
    if audio_path is None:
        raise UserError(f"no audio file {name}; paths are relative to the working directory or the manifest")
    supervisions = sorted(cut.supervisions, key=lambda supervision: supervision.start)
    texts = [supervision.text for supervision in supervisions if supervision.text is not None]
    if not texts:
        raise UserError(f"cut {cut.id} has no transcript; give it a supervision with a text, or leave it out")
    normalized, lost_words = reading.transcript(" ".join(texts))
    speakers = {supervision.speaker for supervision in supervisions}
    is_whole = cut.start == 0 and cut.duration == recording.duration
    utterance = Utterance(
        id=cut.id,
        audio_path=audio_path,
        text=normalized,
        duration_seconds=reading.file_seconds(audio_path, cut.duration) if is_whole else cut.duration,
        speaker=speakers.pop() if len(speakers) == 1 else None,
        offset_seconds=None if is_whole else cut.start,
        lost_words=lost_words,
        channel=all_channels.index(cut.channel) if isinstance(cut, MonoCut) and len(all_channels) > 1 else None,
    )
    check_segment(utterance, recording.duration if reading.measure is None else reading.measure(audio_path))
    return utterance


def _is_resampling(transform: Any) -> bool:
    name = transform.get("name") if isinstance(transform, dict) else type(transform).__name__
    return name == "Resample"
