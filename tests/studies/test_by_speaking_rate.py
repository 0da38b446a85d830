"""The table by words a second."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.records import Record, RecordLog

SCRIPT = Path(__file__).parents[2] / "studies" / "by_speaking_rate.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("by_speaking_rate", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_stream_that_was_resumed_counts_once_with_its_last_words(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RecordLog(tmp_path / "run", {})
    for hyp in ("A B C X", "A B C"):  # the second time from the beginning of the stream
        for name in ("1", "2"):
            log.append(Record(name, "clean", "continual", "A B C D", hyp, 2.0, 0.1))
    log.append(Record("1", "noise:5", "continual", "A B C D", "", 2.0, 0.1))
    (tmp_path / "run" / "results.json").write_text(json.dumps({}))
    records = script.read_records(tmp_path / "run", "clean")
    assert [(record["id"], record["hyp"]) for record in records] == [("1", "A B C"), ("2", "A B C")]
    monkeypatch.setattr("sys.argv", [str(SCRIPT), str(tmp_path / "run")])
    script.main()
    row = capsys.readouterr().out.splitlines()[-1]
    assert row == "| run | 2 to 2.5 | 2 | continual: 25.0 (0) |"


def test_what_is_no_evaluation_is_one_line(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished evaluation"):
        script.read_records(tmp_path, "clean")
