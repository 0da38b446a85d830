"""The studies that look at a finished evaluation once more."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.records import Record, RecordLog

REFERENCE = "A B C D"

LoadStudy = Callable[[str], ModuleType]


def finished(folder: Path, records: list[Record]) -> Path:
    log = RecordLog(folder, {})
    for record in records:
        log.append(record)
    (folder / "results.json").write_text(json.dumps({}))
    return folder


def printed_rows(
    study: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    monkeypatch.setattr("sys.argv", [study.__name__, str(folder)])
    study.main()
    return capsys.readouterr().out.splitlines()[2:]


def test_a_stream_that_was_resumed_counts_once_with_its_last_words(
    load_study: LoadStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [
        Record(name, "clean", "continual", REFERENCE, hyp, 2.0, 0.1)
        for hyp in ("A B C X", "A B C")  # the second time from the beginning of the stream
        for name in ("1", "2")
    ]
    records.append(Record("1", "noise:5", "continual", REFERENCE, "", 2.0, 0.1))
    folder = finished(tmp_path / "run", records)
    read = load_study("records").read_records(folder)
    assert [(record["id"], record["hyp"]) for record in read] == [("1", "A B C"), ("2", "A B C"), ("1", "")]
    rows = printed_rows(load_study("by_speaking_rate"), folder, capsys, monkeypatch)
    assert rows[-1] == "| run | 2 to 2.5 | 2 | continual: 25.0 (0) |"


def test_the_halves_of_a_stream_are_those_of_every_condition(
    load_study: LoadStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"none": ["A B", "A B C", "A B", "A B"], "continual": ["A B", "A B C", "A B C", REFERENCE]}
    records = [
        Record(str(index), condition, method, REFERENCE, hyp, 2.0, 0.1)
        for condition in ("room:hall", "noise:5:sea")
        for method, hyps in answers.items()
        for index, hyp in enumerate(hyps)
    ]
    rows = printed_rows(load_study("second_half"), finished(tmp_path / "run", records), capsys, monkeypatch)
    assert rows[0] == "| run | none | 37.5 |  | 50.0 |  |"
    assert rows[1].startswith("| run | continual | 37.5 | +0.0 (+0.0 to +0.0) | 12.5 | -37.5 (-50.0 to -25.0) |")


def test_what_is_no_evaluation_is_one_line(load_study: LoadStudy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished evaluation"):
        load_study("records").read_records(tmp_path)
