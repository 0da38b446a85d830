"""One recording and what is known about it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lact_asr_model.audio import TOLERATED_SECONDS, AudioFile, audio_duration_seconds, load_audio
from lact_asr_model.errors import UserError
from lact_asr_model.text import lost_words, normalize_text


@dataclass(frozen=True)
class Utterance:
    """A recording, or a segment of one; `text` is its normalised transcript, or None where nobody wrote one.

    offset_seconds: where the segment of `duration_seconds` begins; None = the whole file, however long that is.
    channel: index of the channel that is heard; None = the mean of all.
    lost_words: words of the transcript of which normalisation left out something that is spoken, as they were written.
    """

    id: str
    audio_path: AudioFile
    text: str | None
    duration_seconds: float
    speaker: str | None = None
    offset_seconds: float | None = None
    lost_words: tuple[str, ...] = ()
    channel: int | None = None


@dataclass(frozen=True)
class Reading:
    """How the readers of data sets make utterances.

    spell_out: applied to transcripts before they are normalised; None = nothing.
    measure: gives the length of a file in seconds, and is asked for every file; None = the files' headers are, where
        the data set does not tell the length.
    """

    spell_out: Callable[[str], str] | None = None
    measure: Callable[[AudioFile], float] | None = None

    def transcript(self, written: str) -> tuple[str, tuple[str, ...]]:
        """The normalised transcript, and the words of it that lost something."""
        spelled = written if self.spell_out is None else self.spell_out(written)
        return normalize_text(spelled), tuple(lost_words(spelled))

    def file_seconds(self, path: AudioFile, told_seconds: float | None = None) -> float:
        """How long a file is, which the data set may tell. Raises UserError when it cannot be read, if it has to be."""
        if self.measure is None:
            return audio_duration_seconds(path) if told_seconds is None else told_seconds
        seconds = self.measure(path)
        if told_seconds is not None and abs(told_seconds - seconds) <= TOLERATED_SECONDS:
            return told_seconds
        return seconds


Entry = Callable[[], Utterance]  # makes an utterance of a data set, or raises the UserError that says what is wrong


def load_samples(utterance: Utterance) -> np.ndarray:
    """The samples of an utterance, float32 [samples] at 16 kHz.

    Raises:
        UserError: the file cannot be read (see `load_audio`), or ends before the segment does.
    """
    if utterance.offset_seconds is None:
        return load_audio(utterance.audio_path, channel=utterance.channel)
    return load_audio(
        utterance.audio_path,
        channel=utterance.channel,
        offset_seconds=utterance.offset_seconds,
        duration_seconds=utterance.duration_seconds,
    )


def check_segment(utterance: Utterance, file_seconds: float) -> None:
    """Raise a UserError if a segment is not inside its file."""
    end_seconds = (utterance.offset_seconds or 0.0) + utterance.duration_seconds
    if utterance.offset_seconds is not None and end_seconds > file_seconds + TOLERATED_SECONDS:
        raise UserError(
            f"{utterance.audio_path}: ends at {file_seconds:.2f} s, before the segment {utterance.id} does at "
            f"{end_seconds:.2f} s; correct its offset and duration"
        )
