"""Utterances of recordings inside larger files: what all such data sets have in common."""

from collections.abc import Mapping
from typing import Any

from lact_asr_model.audio import AudioFile
from lact_asr_model.data.manifest import COLUMNS, find_value
from lact_asr_model.data.utterance import Reading, Utterance
from lact_asr_model.errors import UserError

DATA_EXTRA = 'run `pip install "lact-asr[data]"`'


def make_utterance(
    audio: AudioFile, row: Mapping[str, Any], name: str, reading: Reading, told_seconds: float | None = None
) -> Utterance:
    """The utterance of a whole recording of which `row` says the rest, by the names of `COLUMNS`.

    name: its id, if the row has none. told_seconds: as for `Reading.file_seconds`.

    Raises:
        UserError: it has no transcript, or its length is not told and cannot be read.
    """
    text, speaker = find_value(row, "text"), find_value(row, "speaker")
    if not isinstance(text, str):
        raise UserError(f"{audio}: has no transcript; give it one under {COLUMNS['text'][0]!r}, or leave it out")
    normalized, lost_words = reading.transcript(text)
    return Utterance(
        id=str(find_value(row, "id") or name),
        audio_path=audio,
        text=normalized,
        duration_seconds=reading.file_seconds(audio, told_seconds),
        speaker=None if speaker is None else str(speaker),
        lost_words=lost_words,
    )
