"""The studies that hear a data set under conditions: each prints its table."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.parametrize(
    ("name", "first_cells"),
    [
        ("gradient_alignment", ["| clean | conv 0 |", "| gaussian:0.01 | block 1 |"]),
        ("step_direction", ["| none |  |", "| muon | 0.3 % |", "| sign | 3 % |"]),
    ],
)
def test_it_prints_a_row_for_everything(
    load_study: Callable[[str], ModuleType],
    checkpoint_dir: Path,
    librispeech_dir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    first_cells: list[str],
) -> None:
    options = ["--checkpoint", str(checkpoint_dir), "--data_dir", str(librispeech_dir), "--subset", "dev-tiny"]
    options += ["--max_utterances", "2", "--conditions", "clean,gaussian:0.01"]
    monkeypatch.setattr("sys.argv", [name, *options])
    load_study(name).main()
    rows = capsys.readouterr().out.splitlines()
    for cells in first_cells:
        (row,) = (row for row in rows if row.startswith(cells))
        assert "nan" not in row
