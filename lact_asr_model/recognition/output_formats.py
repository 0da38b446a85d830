"""Transcripts as text, JSON lines, CTM and subtitles, and files that are either complete or not there."""

import html
import json
import os
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    from lact_asr_model.recognition.transcript import TimedWord, Transcript

SUFFIXES = {"text": ".txt", "jsonl": ".jsonl", "ctm": ".ctm", "srt": ".srt", "vtt": ".vtt"}
_LINE_CHARACTERS = 42
_CUE_LINES = 2
_CUE_SECONDS = 7.0
_SHORTEST_CUE_SECONDS = 1.0
_PAUSE_SECONDS = 1.5


@dataclass(frozen=True)
class Cue:
    """A subtitle: at most 2 lines of 42 characters, for at most 7 seconds."""

    start_seconds: float
    end_seconds: float
    lines: list[str]


def jsonl_line(id: str, transcript: "Transcript", *, path: str | None = None, reference: str | None = None) -> str:
    """One JSON object `{id, path, ref, hyp, duration, words, adapted, score, n_best}`, times in seconds.

    Without a path, a reference or alternatives it has no such key; `n_best` has the best hypothesis first. `adapted`
    says whether adaptation moved the weights.
    """
    record = {
        "id": id,
        "path": path,
        "ref": reference,
        "hyp": transcript.text,
        "duration": round(transcript.duration_seconds, 3),
        "words": [
            {
                "word": word.word,
                "start": round(word.start_seconds, 3),
                "end": round(word.end_seconds, 3),
                "confidence": round(word.confidence, 4),
            }
            for word in transcript.words
        ],
        "adapted": transcript.is_adapted,
        "score": round(transcript.score, 4),
        "n_best": [
            {"hyp": text, "score": round(score, 4)}
            for text, score in [(transcript.text, transcript.score), *transcript.alternatives]
        ]
        if transcript.alternatives
        else None,
    }
    return json.dumps({name: value for name, value in record.items() if value is not None}, ensure_ascii=False)


def format_ctm(id: str, words: Sequence["TimedWord"]) -> str:
    """NIST CTM: recording (without spaces), channel, start and duration in seconds, word, confidence; a line each."""
    name = "_".join(id.split())
    times = [(word.start_seconds, word.end_seconds - word.start_seconds) for word in words]
    return "".join(
        f"{name} 1 {start:.3f} {duration:.3f} {word.word} {word.confidence:.4f}\n"
        for (start, duration), word in zip(times, words, strict=True)
    )


def format_srt(words: Sequence["TimedWord"]) -> str:
    """SubRip subtitles."""
    return "".join(
        f"{number}\n{_timestamp(cue.start_seconds, ',')} --> {_timestamp(cue.end_seconds, ',')}\n"
        + "\n".join(cue.lines)
        + "\n\n"
        for number, cue in enumerate(make_cues(words), start=1)
    )


def format_vtt(words: Sequence["TimedWord"]) -> str:
    """WebVTT subtitles."""
    return "WEBVTT\n\n" + "".join(
        f"{_timestamp(cue.start_seconds, '.')} --> {_timestamp(cue.end_seconds, '.')}\n"
        + "\n".join(html.escape(line, quote=False) for line in cue.lines)
        + "\n\n"
        for cue in make_cues(words)
    )


def make_cues(words: Sequence["TimedWord"]) -> list[Cue]:
    """Group words into cues that fit on the screen and end at pauses; a short cue stays for a second if it can.

    A single word that does not fit makes a cue of its own, broken over as many lines as it needs.
    """
    groups: list[list[TimedWord]] = []
    for word in words:
        if groups and _belongs(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    next_starts = [group[0].start_seconds for group in groups[1:]] + [float("inf")]
    cues = []
    for group, next_start in zip(groups, next_starts, strict=False):
        start = group[0].start_seconds
        end = max(group[-1].end_seconds, min(start + _SHORTEST_CUE_SECONDS, next_start))
        cues.append(Cue(start, min(end, start + _CUE_SECONDS), _wrap(group)))
    return cues


def check_writable(path: Path) -> None:
    """Find out before the work that a file cannot be written. Raises UserError."""
    if path.is_dir():
        raise UserError(f"{path}: it is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; create {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: its folder cannot be written to; choose another")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file beside `path` that takes its place when it is complete. Raises UserError."""
    try:
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def _belongs(group: list["TimedWord"], word: "TimedWord") -> bool:
    """Whether a cue can take one more word."""
    return (
        word.end_seconds - group[0].start_seconds <= _CUE_SECONDS
        and word.start_seconds - group[-1].end_seconds < _PAUSE_SECONDS
        and len(_wrap([*group, word])) <= _CUE_LINES
    )


def _wrap(words: Sequence["TimedWord"]) -> list[str]:
    return textwrap.wrap(" ".join(word.word for word in words), _LINE_CHARACTERS, break_on_hyphens=False)


def _timestamp(seconds: float, decimal_mark: str) -> str:
    """HH:MM:SS and milliseconds."""
    total_seconds, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, whole_seconds = divmod(total_seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{whole_seconds:02}{decimal_mark}{milliseconds:03}"
