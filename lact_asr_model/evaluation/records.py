"""A log of single recognitions that survives a kill: a second run goes on where the first one stopped."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError
from lact_asr_model.files import complete_lines, write_atomically

_SETTINGS_NAME = "settings.json"

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
        UserError: the folder cannot be written to, or holds records that were made with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], rank: int = 0) -> None:
        self._folder = folder
        self._log_path = folder / "utterances.jsonl"
        self._own_path = folder / f"utterances.{rank}.jsonl" if rank else self._log_path
        self._records: dict[Key, Record] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(path.stat().st_size for path in self._paths()):
                _check_settings(folder, settings)
            elif rank == 0:
                write_atomically(folder / _SETTINGS_NAME, json.dumps(settings, indent=2) + "\n")
            if rank == 0:
                self.merge()
            else:
                self._read(self._log_path.read_bytes())
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from None

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    def __getitem__(self, key: Key) -> Record:
        return self._records[key]

    def append(self, record: Record) -> None:
        """Keep a record, on disk too."""
        with self._own_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
        self._records[record.key] = record

    def merge(self) -> None:
        """Take in what the other processes have recognised, and remove their files; for the first process only."""
        paths = self._paths()
        content = b"".join(complete_lines(path.read_bytes()) for path in paths)
        write_atomically(self._log_path, content.decode("utf-8"))
        for path in paths:
            if path != self._log_path:
                path.unlink()
        self._read(content)

    def _paths(self) -> list[Path]:
        """The files of all processes."""
        return sorted(self._folder.glob("utterances*.jsonl"))

    def _read(self, content: bytes) -> None:
        for line in complete_lines(content).splitlines():
            record = Record(**json.loads(line))
            self._records[record.key] = record


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    stored = json.loads((folder / _SETTINGS_NAME).read_text(encoding="utf-8"))
    for name, value in settings.items():
        if stored.get(name) != value:
            raise UserError(
                f"{folder}: holds results with {name} {stored.get(name)!r}, not {value!r}; give another --output_dir"
            )
