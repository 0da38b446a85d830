"""What a recognition gives: words with their times, transcripts, and the results of files."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from lact_asr_model.audio import AudioFile
    from lact_asr_model.data.utterance import Utterance


@dataclass(frozen=True)
class TimedWord:
    """A recognised word, when it was said, and a confidence in [0, 1]."""

    word: str
    start_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording.

    score: log-probability of the decoder. is_adapted: whether adaptation moved any weight. ttt_losses: the loss before
    each step of adaptation (mean over the segments of a long recording), empty without adaptation. alternatives: the
    next best texts with their scores, if the decoder gives any. emissions: the log-probabilities [frames, vocabulary]
    of each segment, if the transcriber was asked to keep them.
    """

    text: str
    words: list[TimedWord]
    duration_seconds: float
    score: float = 0.0
    is_adapted: bool = False
    ttt_losses: list[float] = field(default_factory=list)
    alternatives: list[tuple[str, float]] = field(default_factory=list)
    emissions: list["np.ndarray"] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class AudioSource:
    """What to transcribe: a file, one of its channels (an index; None = the mean of all), or a stretch of it.

    offset_seconds, duration_seconds: of the stretch; None = to the end.
    """

    path: "AudioFile"
    channel: int | None = None
    offset_seconds: float = 0.0
    duration_seconds: float | None = None

    @classmethod
    def of(cls, utterance: "Utterance") -> "AudioSource":
        """The whole file of an utterance, or the segment that it is."""
        if utterance.offset_seconds is None:
            return cls(utterance.audio_path, utterance.channel)
        return cls(utterance.audio_path, utterance.channel, utterance.offset_seconds, utterance.duration_seconds)


@dataclass(frozen=True)
class FileResult:
    """The transcript of a file, or the reason why there is none.

    is_partial: the file is damaged or cut, and the transcript is of what could be read. warnings: this and whatever
    else a user should know about the file, a line each.
    """

    path: "AudioFile"
    transcript: Transcript | None
    error: UserError | None = None
    is_partial: bool = False
    warnings: tuple[str, ...] = ()
