"""What happens when a visitor does something: plain functions from what the page holds to what it shows."""

import html
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lact_asr_model.audio import SAMPLING_RATE, Audio, read_audio
from lact_asr_model.errors import UserError, printable
from lact_asr_model.files import fitting_name, write_atomically
from lact_asr_model.recognition.output_formats import format_srt, jsonl_line, numbered
from lact_asr_model.recognition.transcript import FileResult, TimedWord
from lact_asr_model.serving.web.noises import Noises
from lact_asr_model.serving.web.pictures import draw_recording, draw_steps
from lact_asr_model.serving.web.recogniser import Comparison, Recognisers, Recognition
from lact_asr_model.serving.web.word_marks import mark_words

LONGEST_SECONDS = 300
WORD_COLUMNS = ["word", "from, s", "to, s", "confidence"]
FILE_COLUMNS = ["recording", "seconds", "transcript", "remark"]
_NUM_HEARD_OUTPUTS = 2
_NUM_COMPARED_OUTPUTS = 7
_NUM_BATCH_OUTPUTS = 2


class Handlers:
    """The page's functions. A mistake of the visitor is the first output, one line; the others are then empty.

    Args:
        recognisers: by name of a checkpoint.
        noises: that a visitor can choose from.
        folder: for files to download.
    """

    def __init__(self, recognisers: Recognisers, noises: Noises, folder: Path) -> None:
        self._recognisers = recognisers
        self._noises = noises
        self._folder = folder

    def hear(self, path: str | None, kind: str, snr_db: float) -> tuple[Any, ...]:
        """Message, audio (rate and int16 samples) and picture of the recording with its noise."""
        if path is None:
            return "", None, None

        def outputs() -> tuple[Any, ...]:
            audio = self._read(path, kind, snr_db)
            return "", playable(audio.samples), draw_recording(audio.samples)

        return _message_of_mistakes(outputs, _NUM_HEARD_OUTPUTS, path)

    def compare(
        self,
        path: str | None,
        kind: str,
        snr_db: float,
        use_lm: bool,
        steps: int,
        step_factor: float,
        reference: str,
        checkpoint: str,
    ) -> tuple[Any, ...]:
        """Message, marked words, summaries and tables of words (plain and adapted each), and the picture of steps."""

        def outputs() -> tuple[Any, ...]:
            if path is None:
                raise UserError("recording: there is none yet; upload or record one, or choose an example")
            audio = self._read(path, kind, snr_db)
            recogniser = self._recognisers.get(checkpoint)
            comparison = recogniser.compare(
                audio.samples, use_lm=use_lm, steps=steps, step_factor=step_factor, reference=reference
            )
            plain, adapted = comparison.plain.transcript, comparison.adapted.transcript
            return (
                _message("; ".join(audio.warnings), path),
                mark_words(plain.text, adapted.text, reference),
                mark_words(adapted.text, plain.text, reference),
                f"The model as it is. {_describe(comparison.plain)}",
                f"{describe_steps(comparison)} {_describe(comparison.adapted)}",
                word_rows(plain.words),
                word_rows(adapted.words),
                draw_steps(comparison.step_points, comparison.options.loss_type),
            )

        return _message_of_mistakes(outputs, _NUM_COMPARED_OUTPUTS, path)

    def transcribe(
        self,
        progress: Callable[[tuple[int, int], str], Any],
        paths: Sequence[str] | None,
        adapt: bool,
        use_lm: bool,
        checkpoint: str,
    ) -> tuple[Any, ...]:
        """Message, a row for each recording, and the files to download.

        Args:
            progress: is told (recordings done, of how many) and what is done next.
        """

        def outputs() -> tuple[Any, ...]:
            if not paths:
                raise UserError("recordings: there are none yet; choose some")
            files = [Path(path) for path in paths]
            ids = numbered(path.stem for path in files)
            progress((0, len(files)), "loading the model")
            recogniser = self._recognisers.get(checkpoint)
            results: list[FileResult] = []
            progress((0, len(files)), ids[0])
            for result in recogniser.transcribe_files(files, use_lm=use_lm, adapt=adapt):
                results.append(result)
                progress((len(results), len(files)), [*ids, "done"][len(results)])
            rows = [file_row(id, result) for id, result in zip(ids, results, strict=True)]
            return "", rows, [str(path) for path in write_transcripts(ids, results, self._folder)]

        return _message_of_mistakes(outputs, _NUM_BATCH_OUTPUTS)

    def _read(self, path: str, kind: str, snr_db: float) -> Audio:
        """The recording with its noise. Raises UserError."""
        audio = read_audio(path)
        seconds = len(audio.samples) / SAMPLING_RATE
        if seconds > LONGEST_SECONDS:
            raise UserError(
                f"{path}: {seconds:.0f} s are too long to be compared here; up to {LONGEST_SECONDS} s are not, and "
                "the other tab takes recordings of any length"
            )
        return Audio(self._noises.corrupt(audio.samples, kind, snr_db), audio.warnings)


def playable(samples: np.ndarray) -> tuple[int, np.ndarray]:
    """Sampling rate in Hz and int16 [samples]; quieter only if they would not fit."""
    peak = max(1.0, float(np.abs(samples).max(initial=0.0)))
    return SAMPLING_RATE, np.round(samples * (32767 / peak)).astype(np.int16)


def describe_steps(comparison: Comparison) -> str:
    """How the recording was adapted, as a sentence."""
    options = comparison.options
    if not comparison.adapted.transcript.is_adapted:
        return "No weight has moved."
    steps = "1 step" if options.steps == 1 else f"{options.steps} steps"
    return f"{steps} on {options.parameters.replace('_', ' ')}."


def word_rows(words: Sequence[TimedWord]) -> list[list[Any]]:
    """Rows with `WORD_COLUMNS`."""
    return [
        [word.word, f"{word.start_seconds:.2f}", f"{word.end_seconds:.2f}", f"{word.confidence:.2f}"] for word in words
    ]


def file_row(id: str, result: FileResult) -> list[Any]:
    """A row with `FILE_COLUMNS`."""
    remark = str(result.error) if result.error else "; ".join(result.warnings)
    remark = remark.replace(str(result.path), result.path.name)
    if result.transcript is None:
        return [id, "", "", remark]
    return [id, f"{result.transcript.duration_seconds:.1f}", result.transcript.text, remark]


def write_transcripts(ids: Sequence[str], results: Sequence[FileResult], folder: Path) -> list[Path]:
    """All in one file of JSON lines, and subtitles of each, in a new folder in `folder`; nothing where all failed."""
    transcripts = [(id, result.transcript) for id, result in zip(ids, results, strict=True) if result.transcript]
    if not transcripts:
        return []
    folder = Path(tempfile.mkdtemp(dir=folder))
    contents = {"transcripts.jsonl": "".join(jsonl_line(id, transcript) + "\n" for id, transcript in transcripts)}
    contents |= {fitting_name(id, ".srt"): format_srt(transcript.words) for id, transcript in transcripts}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def _describe(recognition: Recognition) -> str:
    """Word error rate, if a reference was given, and speed."""
    transcript, errors = recognition.transcript, recognition.errors
    speed = f"{transcript.duration_seconds:.1f} s of audio in {recognition.seconds:.2f} s."
    if errors is None:
        return speed
    return f"**WER {errors.rate:.1%}** ({errors.errors} of {errors.reference_length} words). {speed}"


def _message(text: str, path: str | None = None) -> str:
    """One line as HTML, with the file by its name; nothing for an empty text."""
    if path is not None:
        text = text.replace(path, Path(path).name)
    return (
        f'<p role="alert" style="color: #b00020">{html.escape(printable(" ".join(text.split())))}</p>' if text else ""
    )


def _message_of_mistakes(
    outputs: Callable[[], tuple[Any, ...]], num_others: int, path: str | None = None
) -> tuple[Any, ...]:
    """The outputs; or the message of a visitor's mistake, and nothing else."""
    try:
        return outputs()
    except UserError as error:
        return (_message(str(error), path), *[None] * num_others)
