"""Transcripts in the formats of OpenAI's API."""

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

from fastapi.responses import JSONResponse, PlainTextResponse, Response

from lact_asr_model.errors import printable
from lact_asr_model.recognition.output_formats import format_srt, format_vtt, make_cues
from lact_asr_model.recognition.transcript import TimedWord, Transcript

Format = Literal["json", "text", "srt", "vtt", "verbose_json"]


def answer(
    transcript: Transcript, format_name: Format, granularities: Sequence[str], language: str, warnings: Sequence[str]
) -> Response:
    """The answer to a request. Warnings are in the JSON and in the header `X-Warning`."""
    headers = {"X-Warning": printable("; ".join(warnings)).encode("ascii", "replace").decode()} if warnings else None
    if format_name == "text":
        return PlainTextResponse(transcript.text + "\n", headers=headers)
    if format_name == "srt":
        return PlainTextResponse(format_srt(transcript.words), headers=headers, media_type="application/x-subrip")
    if format_name == "vtt":
        return PlainTextResponse(format_vtt(transcript.words), headers=headers, media_type="text/vtt")
    content: dict[str, Any] = {"text": transcript.text}
    if format_name == "verbose_json":
        content |= _details(transcript, granularities, language)
    if warnings:
        content["warnings"] = list(warnings)
    return JSONResponse(content, headers=headers)


def delta_event(text: str) -> str:
    """A part of a streamed transcript, as a server-sent event."""
    return _event({"type": "transcript.text.delta", "delta": text})


def done_event(text: str, warnings: Sequence[str]) -> str:
    """The end of a streamed transcript, and all of its text."""
    event: dict[str, Any] = {"type": "transcript.text.done", "text": text}
    return _event(event | ({"warnings": list(warnings)} if warnings else {})) + "data: [DONE]\n\n"


def error_event(content: dict[str, Any]) -> str:
    """An error after the beginning of a streamed transcript."""
    return _event(content)


def timed(word: TimedWord) -> dict[str, Any]:
    """A word with its times in seconds, and its confidence."""
    return {
        "word": word.word,
        "start": round(word.start_seconds, 3),
        "end": round(word.end_seconds, 3),
        "confidence": round(word.confidence, 4),
    }


def _details(transcript: Transcript, granularities: Sequence[str], language: str) -> dict[str, Any]:
    details: dict[str, Any] = {
        "task": "transcribe",
        "language": language,
        "duration": round(transcript.duration_seconds, 3),
        "adapted": transcript.is_adapted,
    }
    if "word" in granularities:
        details["words"] = [timed(word) for word in transcript.words]
    if "segment" in granularities or not granularities:
        details["segments"] = _segments(transcript.words)
    return details


def _segments(words: Sequence[TimedWord]) -> list[dict[str, Any]]:
    """Cues of subtitles, with all the fields that typed clients expect; what a CTC model does not know is empty."""
    segments = []
    first = 0
    for number, cue in enumerate(make_cues(words)):
        text = " ".join(cue.lines)
        last = first + len(text.split())
        logs = [math.log(max(word.confidence, 1e-10)) for word in words[first:last]]
        segments.append(
            {
                "id": number,
                "seek": 0,
                "start": round(cue.start_seconds, 3),
                "end": round(cue.end_seconds, 3),
                "text": text,
                "tokens": [],
                "temperature": 0.0,
                "avg_logprob": round(sum(logs) / len(logs), 4),
                "compression_ratio": 1.0,
                "no_speech_prob": 0.0,
            }
        )
        first = last
    return segments


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
