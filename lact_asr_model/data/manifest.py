"""Manifests and tables of recordings: JSON lines, a JSON list, CSV and TSV, those of NeMo and Common Voice included."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lact_asr_model.data.utterance import Entry, Reading, Utterance, check_segment
from lact_asr_model.errors import UserError
from lact_asr_model.text import read_text_file

MANIFEST_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
COLUMNS = {  # names of what is known about a recording, in the order of preference
    "audio": ("audio_filepath", "path", "audio", "audio_path", "file", "file_name", "filename", "wav", "wav_filename"),
    "text": ("text", "sentence", "transcript", "transcription"),
    "id": ("id", "utterance_id"),
    "speaker": ("speaker", "client_id", "speaker_id"),
    "duration": ("duration", "duration_seconds"),
    "offset": ("offset", "start"),
}
_DELIMITERS = "\t,;|"
_CLIPS = "clips"  # folder of Common Voice's recordings, beside its tables


def read_manifest(path: str | Path) -> list[Utterance]:
    """Utterances of a manifest or a table, which is recognised by its content.

    JSON is one object a line, or a list of objects; a table begins with a line that names its columns, separated by
    tabs, commas, semicolons or bars. `COLUMNS` has the names that are understood; others are ignored, and only the
    audio is required. Its path is relative to the manifest, or to the folder `clips` beside it. With an `offset` (0,
    too), the recording is the segment of `duration` seconds that begins there; without one, it is the whole file, and
    `duration` only saves reading the header.

    Raises:
        UserError: the file cannot be read, or the line that it names is wrong.
    """
    return [make() for make in manifest_entries(Path(path), Reading())]


def manifest_entries(path: Path, reading: Reading) -> list[Entry]:
    """The utterances of `read_manifest`, not yet made. Raises UserError when the file is none of those kinds."""
    content = read_text_file(path)
    start = content.lstrip()[:1]
    rows = (
        _json_list(path, content) if start == "[" else _json_lines(content) if start == "{" else _table(path, content)
    )
    told_seconds = _clip_durations_seconds(path.parent / "clip_durations.tsv") if start not in ("[", "{") else {}
    return [partial(_make, read_row, f"{path} {place}", path.parent, told_seconds, reading) for place, read_row in rows]


_Row = Mapping[str, Any]


def _json_list(path: Path, content: str) -> Iterator[tuple[str, Callable[[], _Row]]]:
    try:
        items = json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} line {error.lineno}: not valid JSON ({error.msg}); write a list of objects") from None
    for number, item in enumerate(items, start=1):
        yield f"item {number}", partial(_checked_object, item)


def _json_lines(content: str) -> Iterator[tuple[str, Callable[[], _Row]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", partial(_parse_line, line)


def _parse_line(line: str) -> _Row:
    try:
        return _checked_object(json.loads(line))
    except json.JSONDecodeError as error:
        raise UserError(f"not valid JSON ({error.msg}); write one JSON object a line") from None


def _checked_object(item: Any) -> _Row:
    if not isinstance(item, dict):
        raise UserError("is no JSON object; write one with 'audio_filepath'")
    return item


def _table(path: Path, content: str) -> Iterator[tuple[str, Callable[[], _Row]]]:
    if not content.strip():
        return
    header = content.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    lines = io.StringIO(content, newline="")
    if delimiter == "\t":  # which cannot be inside a column, so that quotation marks mean nothing
        rows = csv.DictReader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        rows = csv.DictReader(lines, delimiter=delimiter)
    try:
        columns = [name.strip() for name in rows.fieldnames or []]
        if find_value(dict.fromkeys(columns, ""), "audio") is None:
            raise UserError(
                f"{path}: no column for the audio; its first line must name the columns, one of them "
                f"{', '.join(COLUMNS['audio'][:3])}"
            )
        rows.fieldnames = columns
        for row in rows:
            yield f"line {rows.line_num}", partial(_checked_row, row)
    except csv.Error as error:
        raise UserError(f"{path} line {rows.line_num + 1}: is no row of a table ({error}); correct it") from None


def _checked_row(row: dict[str, str | None]) -> _Row:
    if None in row.values():
        raise UserError("too few columns; give every row all columns")
    return row


def find_value(row: _Row, name: str) -> Any:
    """What a row says under one of the names of a column; None: nothing."""
    by_name = {str(key).lower(): value for key, value in row.items()}
    return next((by_name[alias] for alias in COLUMNS[name] if by_name.get(alias) is not None), None)


def _make(
    read_row: Callable[[], _Row], place: str, folder: Path, told_seconds: Mapping[str, float], reading: Reading
) -> Utterance:
    try:
        return _utterance(read_row(), folder, told_seconds, reading)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def _utterance(row: _Row, folder: Path, told_seconds: Mapping[str, float], reading: Reading) -> Utterance:
    name, text = find_value(row, "audio"), find_value(row, "text")
    if not isinstance(name, str) or not name:
        raise UserError("no 'audio_filepath'; name the recording")
    audio_path = next(filter(os.path.isfile, (folder / name, folder / _CLIPS / name)), None)
    if audio_path is None:
        raise UserError(f"no audio file {folder / name}; paths are relative to the manifest")
    if not isinstance(text, str | None):
        raise UserError(f"'text' is {text!r}; write a string")
    normalized, lost_words = (None, ()) if text is None else reading.transcript(text)
    utterance_id, speaker = find_value(row, "id"), find_value(row, "speaker")
    stem = Path(name).with_suffix("").as_posix()
    offset_seconds = find_number(find_value(row, "offset"), "offset", at_least=0.0)
    duration_seconds = find_number(find_value(row, "duration"), "duration", above=0.0)
    if duration_seconds is None:
        duration_seconds = told_seconds.get(name)
    if offset_seconds is None:
        duration_seconds = reading.file_seconds(audio_path, duration_seconds)
    elif duration_seconds is None:
        duration_seconds = reading.file_seconds(audio_path) - offset_seconds
        if duration_seconds <= 0:
            raise UserError(f"'offset' is {offset_seconds:g}, after the end of {audio_path}; correct it")
    utterance = Utterance(
        id=str(utterance_id or (stem if offset_seconds is None else f"{stem}@{offset_seconds:g}")),
        audio_path=audio_path,
        text=normalized,
        duration_seconds=duration_seconds,
        speaker=None if speaker is None else str(speaker),
        offset_seconds=offset_seconds,
        lost_words=lost_words,
    )
    if reading.measure is not None:
        check_segment(utterance, reading.measure(audio_path))
    return utterance


def find_number(value: Any, name: str, *, above: float = -math.inf, at_least: float = -math.inf) -> float | None:
    """Seconds, also those that a table has as text; None where there are none."""
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (above < number < math.inf and number >= at_least):
        least = "above 0" if above == 0 else "from 0 up"
        raise UserError(f"'{name}' is {value!r}; write seconds {least}, or leave it out")
    return number


def _clip_durations_seconds(path: Path) -> dict[str, float]:
    """Lengths by the names of the clips, from the table that some releases of Common Voice have."""
    if not path.is_file():
        return {}
    durations_seconds = {}
    rows = csv.DictReader(io.StringIO(read_text_file(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    for row in rows:
        try:
            durations_seconds[row["clip"]] = float(row["duration[ms]"]) / 1000
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path} line {rows.line_num}: the duration is no number; remove the file") from None
    return durations_seconds
