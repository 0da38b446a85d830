"""Transcripts as text, JSON lines, CTM and subtitles."""

import html
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lact_asr_model.errors import printable

if TYPE_CHECKING:
    from lact_asr_model.recognition.transcript import TimedWord, Transcript

SUFFIXES = {"text": ".txt", "jsonl": ".jsonl", "ctm": ".ctm", "srt": ".srt", "vtt": ".vtt"}
_HYPOTHESIS = '"hyp": '
SEPARATORS = {"text": "\t", "jsonl": _HYPOTHESIS, "ctm": " "}  # where what is known before recognition ends
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


def text_head(name: str) -> str:
    """What comes before the text of a recording on its line, where there are several recordings."""
    return printable(name) + "\t"


def jsonl_head(id: str, *, path: str | None = None, reference: str | None = None) -> str:
    """The beginning of a line of `jsonl_line`, up to the value of `hyp`: all that is known before recognition."""
    known = {"id": id, "path": path, "ref": reference}
    return f"{_object(known)[:-1]}, {_HYPOTHESIS}"


def jsonl_line(id: str, transcript: "Transcript", *, path: str | None = None, reference: str | None = None) -> str:
    """One JSON object `{id, path, ref, hyp, duration, words, adapted, score, n_best}`, times in seconds.

    Without a path, a reference or alternatives it has no such key; `n_best` has the best hypothesis first. `adapted`
    says whether adaptation moved the weights.
    """
    found = {
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
    return jsonl_head(id, path=path, reference=reference) + _object(found).removeprefix("{" + _HYPOTHESIS)


def read_jsonl_line(line: str) -> "Transcript":
    """The transcript of a line of `jsonl_line`, with numbers as rounded there and without the losses of adaptation.

    Raises:
        ValueError: it is no such line.
    """
    from lact_asr_model.recognition.transcript import TimedWord, Transcript

    record = json.loads(line)
    try:
        words = [TimedWord(word["word"], word["start"], word["end"], word["confidence"]) for word in record["words"]]
        alternatives = [(best["hyp"], best["score"]) for best in record.get("n_best", [])[1:]]
        return Transcript(
            record["hyp"],
            words,
            record["duration"],
            record["score"],
            record["adapted"],
            alternatives=alternatives,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"lacks {error}") from None


def format_ctm(name: str, words: Sequence["TimedWord"]) -> str:
    """NIST CTM: recording (from `ctm_names`), channel, start and duration in seconds, word, confidence; a line each."""
    times = [(word.start_seconds, word.end_seconds - word.start_seconds) for word in words]
    return "".join(
        f"{name} 1 {start:.3f} {duration:.3f} {word.word} {word.confidence:.4f}\n"
        for (start, duration), word in zip(times, words, strict=True)
    )


def ctm_names(ids: Iterable[str]) -> list[str]:
    """Each id as a column of its own: without spaces, not like a comment (;;), and different from the others."""
    return numbered(re.sub(r"^;;", "__", printable(re.sub(r"\s+", "_", id.strip()))) or "_" for id in ids)


def numbered(names: Iterable[str]) -> list[str]:
    """The names; one that was there before gets a number, -2 and so on, that makes it a new one."""
    names = list(names)
    taken = set(names)
    counts: Counter[str] = Counter()
    different = []
    for name in names:
        counts[name] += 1
        candidate = name
        while counts[name] > 1 and (candidate := f"{name}-{counts[name]}") in taken:
            counts[name] += 1
        taken.add(candidate)
        different.append(candidate)
    return different


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


def _object(values: dict[str, Any]) -> str:
    """A JSON object without what is None."""
    return json.dumps({name: value for name, value in values.items() if value is not None}, ensure_ascii=False)
