"""The log of recognitions: complete lines survive, half a line does not, settings are not mixed."""

import dataclasses
import json
import os
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
    for log in (first, second):
        log.merge()
        assert all(record(name).key in log for name in "ab")
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


def test_a_folder_from_before_the_data_were_kept_is_gone_on_with(tmp_path: Path) -> None:
    RecordLog(tmp_path / "old", SETTINGS).append(record("a"))
    assert record("a").key in RecordLog(tmp_path / "old", SETTINGS | {"data_dir": "/data"})
    RecordLog(tmp_path / "new", SETTINGS | {"data_dir": "/data"}).append(record("a"))
    with pytest.raises(UserError, match="with data_dir '/data', not '/others'; give another --output_dir"):
        RecordLog(tmp_path / "new", SETTINGS | {"data_dir": "/others"})


def test_files_of_similar_names_are_left_alone(tmp_path: Path) -> None:
    names = ["utterances.backup.jsonl", "utterances_children.jsonl", "utterances.0.jsonl"]
    for name in names:
        (tmp_path / name).write_text('{"audio_filepath": "a.wav"}\n')
    RecordLog(tmp_path, SETTINGS).append(record("a"))
    assert record("a").key in RecordLog(tmp_path, SETTINGS)
    assert {(tmp_path / name).read_text() for name in names} == {'{"audio_filepath": "a.wav"}\n'}


@pytest.mark.parametrize("line", ['{"audio_filepath": "a.wav"}', "[1, 2]", "{", "\udcff"])
def test_a_line_that_is_no_record_is_named_and_nothing_is_removed(tmp_path: Path, line: str) -> None:
    RecordLog(tmp_path, SETTINGS).append(record("a"))
    kept = (tmp_path / "utterances.jsonl").read_bytes()
    other = json.dumps(dataclasses.asdict(record("b"))).encode() + b"\n" + os.fsencode(line) + b"\n"
    (tmp_path / "utterances.2.jsonl").write_bytes(other)
    with pytest.raises(UserError, match=r"utterances\.2\.jsonl line 2: is no record"):
        RecordLog(tmp_path, SETTINGS)
    assert (tmp_path / "utterances.jsonl").read_bytes() == kept
    assert (tmp_path / "utterances.2.jsonl").read_bytes() == other


@pytest.mark.parametrize("name", ["settings.json", "results.json"])
def test_files_of_somebody_else_are_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"holds a {name}, but no utterances.jsonl .* give another --output_dir"):
        RecordLog(tmp_path, SETTINGS)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "{}")]


@pytest.mark.parametrize("content", ["[1]", "learning_rate: 1", None])
def test_records_without_their_settings_are_refused(tmp_path: Path, content: str | None) -> None:
    RecordLog(tmp_path, SETTINGS).append(record("a"))
    (tmp_path / "settings.json").unlink()
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
    with pytest.raises(UserError, match=r"settings\.json.*; give another --output_dir"):
        RecordLog(tmp_path, SETTINGS)


def test_a_name_that_is_not_utf_8_is_read_back(tmp_path: Path) -> None:
    RecordLog(tmp_path, SETTINGS).append(record("caf\udce9"))
    assert RecordLog(tmp_path, SETTINGS)[record("caf\udce9").key] == record("caf\udce9")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written to"):
        RecordLog(tmp_path / "file", SETTINGS)
