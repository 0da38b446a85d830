"""What a recognition gives: words with their times, transcripts, and the results of files."""

from dataclasses import dataclass, field
from pathlib import Path

from lact_asr_model.errors import UserError


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
    next best texts with their scores, if the decoder gives any.
    """

    text: str
    words: list[TimedWord]
    duration_seconds: float
    score: float = 0.0
    is_adapted: bool = False
    ttt_losses: list[float] = field(default_factory=list)
    alternatives: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class FileResult:
    """The transcript of a file, or the reason why there is none."""

    path: Path
    transcript: Transcript | None
    error: UserError | None = None
