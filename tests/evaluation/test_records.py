"""The log of recognitions: complete lines survive, half a line does not, settings are not mixed."""

import dataclasses
import json
from pathlib import Path

import pytest

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.records import Record, RecordLog

SETTINGS = {"seed": 0, "ttt": {"steps": 1, "learning_rate": 0.01}}


def record(id: str, hyp: str = "ONE") -> Record:
    return Record(id=id, condition="noise:5", method="ttt", ref="ÉTÉ ONE", hyp=hyp, duration=1.5, seconds=0.25)


def test_records_are_read_back(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "run", SETTINGS)
    log.append(record("a"))
    again = RecordLog(tmp_path / "run", SETTINGS)
    assert again[record("a").key] == record("a")
    assert record("b").key not in again


def test_each_record_is_a_json_line(tmp_path: Path) -> None:
    log = RecordLog(tmp_path, SETTINGS)
    log.append(record("a"))
    log.append(record("b"))
    lines = (tmp_path / "utterances.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [dataclasses.asdict(record(name)) for name in "ab"]


def test_what_a_kill_left_of_a_line_is_forgotten(tmp_path: Path) -> None:
    log = RecordLog(tmp_path, SETTINGS)
    log.append(record("a"))
    log.append(record("b"))
    path = tmp_path / "utterances.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    resumed = RecordLog(tmp_path, SETTINGS)
    assert record("a").key in resumed
    assert record("b").key not in resumed
    resumed.append(record("b", hyp="TWO"))
    assert RecordLog(tmp_path, SETTINGS)[record("b").key].hyp == "TWO"


def test_the_first_process_takes_in_what_the_others_left(tmp_path: Path) -> None:
    logs = [RecordLog(tmp_path, SETTINGS, rank) for rank in range(3)]
    for log, name in zip(logs, "abc", strict=True):
        log.append(record(name))
    assert record("b").key not in logs[0]
    path = tmp_path / "utterances.2.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": "d')  # a kill
    resumed = RecordLog(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["utterances.jsonl"]
    resumed.append(record("d"))
    for log in (resumed, RecordLog(tmp_path, SETTINGS, 1)):
        assert all(log[record(name).key] == record(name) for name in "abcd")


def test_merging_while_the_others_are_done(tmp_path: Path) -> None:
    first, second = (RecordLog(tmp_path, SETTINGS, rank) for rank in range(2))
    first.append(record("a"))
    second.append(record("b"))
    first.merge()
    assert all(record(name).key in first for name in "ab")
    assert len((tmp_path / "utterances.jsonl").read_text().splitlines()) == 2


def test_what_another_process_left_has_settings_too(tmp_path: Path) -> None:
    RecordLog(tmp_path, SETTINGS)
    RecordLog(tmp_path, SETTINGS, 1).append(record("a"))
    with pytest.raises(UserError, match="with seed 0, not 1"):
        RecordLog(tmp_path, SETTINGS | {"seed": 1})


def test_a_run_without_results_ties_nobody_to_its_settings(tmp_path: Path) -> None:
    RecordLog(tmp_path, SETTINGS)
    RecordLog(tmp_path, SETTINGS | {"seed": 1}).append(record("a"))
    with pytest.raises(UserError, match="with seed 1, not 0"):
        RecordLog(tmp_path, SETTINGS)


def test_records_from_before_adaptation_was_noted_are_read(tmp_path: Path) -> None:
    fields = dataclasses.asdict(record("a"))
    del fields["adapted"]
    RecordLog(tmp_path, SETTINGS)
    (tmp_path / "utterances.jsonl").write_text(json.dumps(fields) + "\n")
    assert RecordLog(tmp_path, SETTINGS)[record("a").key].adapted is None


def test_results_of_other_settings_are_refused(tmp_path: Path) -> None:
    RecordLog(tmp_path, SETTINGS).append(record("a"))
    with pytest.raises(UserError, match="with seed 0, not 1; give another --output_dir"):
        RecordLog(tmp_path, SETTINGS | {"seed": 1})


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written to"):
        RecordLog(tmp_path / "file", SETTINGS)
