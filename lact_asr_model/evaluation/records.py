"""A log of single recognitions that survives a kill: a second run goes on where the first one stopped."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError
from lact_asr_model.files import complete_lines, encode, write_atomically

RESULTS_NAME = "results.json"
_SETTINGS_NAME = "settings.json"
_LOG_NAME = "utterances.jsonl"
_NAMES_OF_LOGS = re.compile(r"utterances(\.[1-9][0-9]*)?\.jsonl")
_LATER_SETTINGS = {"data_dir"}  # earlier versions did not keep them

Key = tuple[str, str, str]  # condition, method, id of the utterance


@dataclass(frozen=True)
class Record:
    """One utterance recognised under one condition by one method; the fields are the keys of a JSON line.

    duration: seconds of audio. seconds: time that the recognition took. adapted: whether adaptation moved any weight;
    None = not known.
    """

    id: str
    condition: str
    method: str
    ref: str
    hyp: str
    duration: float
    seconds: float
    adapted: bool | None = None

    @property
    def key(self) -> Key:
        """What there is one record of."""
        return self.condition, self.method, self.id


class RecordLog:
    """The records in a folder: `utterances.jsonl`, and the settings that they were made with.

    Several processes may share a folder. The first one keeps `utterances.jsonl`, the others add to a file each, which
    the first merges in `merge` and when it begins. It must have begun before the others do.

    Args:
        folder: made if it is not there.
        settings: what the records depend on.
        rank: number of this process; 0 is the first.

    Raises:
        UserError: the folder cannot be written to, holds records that were made with other settings, or files of
            somebody else in the places of ours.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], rank: int = 0) -> None:
        self.folder = folder
        self._is_first = rank == 0
        self._log_path = folder / _LOG_NAME
        self._own_path = folder / f"utterances.{rank}.jsonl" if rank else self._log_path
        self._records: dict[Key, Record] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            paths = self._paths()
            if any(path.stat().st_size for path in paths):
                _check_settings(folder, settings)
            elif self._is_first:
                if not paths:
                    _check_new(folder)
                self._log_path.touch()  # before the settings, which are known as ours by it
                write_atomically(folder / _SETTINGS_NAME, json.dumps(settings, indent=2) + "\n")
            self.merge()
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from None

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    def __getitem__(self, key: Key) -> Record:
        return self._records[key]

    def ids(self, condition: str, method: str) -> list[str]:
        """The utterances that were recognised so, in the order in which they were first."""
        return [record.id for record in self._records.values() if record.key[:2] == (condition, method)]

    def append(self, record: Record) -> None:
        """Keep a record, on disk too."""
        with self._own_path.open("ab") as file:
            file.write(encode(json.dumps(asdict(record), ensure_ascii=False) + "\n"))
        self._records[record.key] = record

    def merge(self) -> None:
        """Take in what the other processes have recognised; the first process does so first, and removes their files.

        Raises:
            UserError: a line is no record.
        """
        paths = self._paths() if self._is_first else [self._log_path]
        contents = {path: complete_lines(path.read_bytes()) for path in paths}
        read = [record for path, content in contents.items() for record in _records(path, content)]
        if self._is_first:
            write_atomically(self._log_path, b"".join(contents.values()).decode("utf-8"))
            for path in paths:
                if path != self._log_path:
                    path.unlink()
        self._records.update((record.key, record) for record in read)

    def _paths(self) -> list[Path]:
        """The files of all processes."""
        return sorted(path for path in self.folder.iterdir() if _NAMES_OF_LOGS.fullmatch(path.name))


def _records(path: Path, content: bytes) -> Iterator[Record]:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield Record(**json.loads(line.decode("utf-8")))
        except (ValueError, TypeError):
            raise UserError(f"{path} line {number}: is no record of evaluate; give another --output_dir") from None


def _check_new(folder: Path) -> None:
    for name in (_SETTINGS_NAME, RESULTS_NAME):
        if (folder / name).exists():
            raise UserError(f"{folder}: holds a {name}, but no {_LOG_NAME} beside it; give another --output_dir")


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / _SETTINGS_NAME
    if not path.exists():
        raise UserError(f"{folder}: holds records without their {_SETTINGS_NAME}; give another --output_dir")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        raise UserError(f"{path}: is no JSON object; give another --output_dir")
    for name, value in settings.items():
        if name in _LATER_SETTINGS and name not in stored:
            continue
        if stored.get(name) != value:
            raise UserError(
                f"{folder}: holds results with {name} {stored.get(name)!r}, not {value!r}; give another --output_dir"
            )
