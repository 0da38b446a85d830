"""`benchmarks/tables.py` with a stand-in for the commands that measure."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lact_asr_model.commands.evaluate import _parser as evaluate_parser

WEIGHTS = "0123456789abcdef"
PLACE = "<!-- table: {} -->\nold\n<!-- end of table -->\n"


@pytest.fixture
def tables(load_benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module; the weights have a checksum without a model."""
    module = load_benchmark("tables")
    description = module.ModelDescription(WEIGHTS, "none,ttt,ttt:1", "state")
    monkeypatch.setattr(module, "describe_model", lambda checkpoint: description)
    return module


@pytest.fixture
def document(tmp_path: Path) -> Path:
    return tmp_path / "document.md"


class Measured:
    """Takes the place of `subprocess.run`: which evaluations were asked for, and results for all but `failing`."""

    def __init__(self) -> None:
        self.subsets: list[str] = []
        self.failing: set[str] = set()

    def __call__(self, command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        if "--output_dir" in words:
            subset, folder = (words[words.index(flag) + 1] for flag in ("--subset", "--output_dir"))
            self.subsets.append(Path(subset).stem)
            if Path(subset).stem in self.failing:
                return subprocess.CompletedProcess(words, 2)
            methods = words[words.index("--methods") + 1].split(",")
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / "results.json").write_text(json.dumps(results(methods)))
        return subprocess.CompletedProcess(words, 0, stdout="")


def summary(method: str, wer: float, condition: str = "clean") -> dict[str, Any]:
    words = {"substitutions": 3, "deletions": 2, "insertions": 1, "reference_length": 60}
    compared = {"time_ratio": 6.1} if method != "none" else {}
    for rate in ("wer", "cer") if compared else ():
        for name in ("difference", "relative_change"):
            compared |= {f"{rate}_{name}": -0.041, f"{rate}_{name}_interval": [-0.05, -0.03]}
    return {
        **{"condition": condition, "method": method, "num_utterances": 97, "words": words, "rtfx": 18.64},
        **{"wer": wer, "wer_interval": [wer - 0.02, wer + 0.02], "cer": 0.1, "cer_interval": [0.09, 0.11]},
        **{"num_blank": 0, "num_single_character": 0, "compute_seconds": 2.0, **compared},
    }


def results(methods: list[str]) -> dict[str, Any]:
    """What `lact-asr evaluate` leaves: 30 % greedy, 10 % with the beam; 4 points less when adapted, 3 in one step."""
    of_decoding = {
        suffix: [
            summary(method, wer - {"none": 0, "ttt:1": 0.03}.get(method, 0.04), condition)
            for condition in ("clean", "mp3")
            for method in methods
        ]
        for suffix, wer in (("", 0.3), ("_of_beam", 0.1))
    }
    common = {
        "weights_sha256": WEIGHTS,
        "seed": 0,
        "commit": "58e746f5555-dirty",
        "hardware": "a CPU",
        "num_threads": 1,
        "decoding": {"beam_size": 50},
    }
    by_name = {f"results{suffix}": rows for suffix, rows in of_decoding.items()}
    shifted = {f"mean_of_shifted{suffix}": rows[len(methods) :] for suffix, rows in of_decoding.items()}
    if "suta:10" not in methods:
        by_name = {name: rows[: len(methods)] for name, rows in by_name.items()}
    return common | by_name | shifted


@pytest.fixture
def measured(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Measured:
    stand_in = Measured()
    monkeypatch.setattr(tables.subprocess, "run", stand_in)
    return stand_in


@pytest.fixture
def make(tables: ModuleType, tmp_path: Path, document: Path) -> Callable[..., int]:
    """Run the script on one document; returns its exit status."""
    (tmp_path / "data" / "speechocean762").mkdir(parents=True)
    (tmp_path / "data" / "speechocean762" / "test.jsonl").touch()
    for noise in tables.HELD_OUT_NOISES:
        (tmp_path / "data" / "noise" / noise).mkdir(parents=True)

    def run(*flags: str) -> int:
        folders = ["--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as stopped:
            tables.main([*folders, "--documents", str(document), *flags])
        return int(stopped.value.code or 0)

    return run


def test_a_place_is_filled_with_the_figures_and_where_they_are_from(
    make: Callable[..., int], measured: Measured, document: Path, tmp_path: Path
) -> None:
    document.write_text(f"before\n\n{PLACE.format('test-clean')}\nafter\n")
    assert make("--test_clean_dir", str(tmp_path)) == 0
    assert document.read_text().startswith("before\n\n<!-- table: test-clean -->\n| WER % (95 %)")
    row, _, origin = document.read_text().splitlines()[5:8]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    rates = ["30.0 (28.0 to 32.0)", "26.0 (24.0 to 28.0)", "10.0 (8.0 to 12.0)", "7.0 (5.0 to 9.0)"]
    assert cells == ["LibriSpeech test-clean", *rates]
    assert origin == (
        "LibriSpeech test-clean: 97 utterances; seed 0; commit 58e746f; weights 0123456789ab; 1 thread of a CPU."
    )
    assert document.read_text().endswith("<!-- end of table -->\n\nafter\n")


def test_a_second_run_measures_nothing_again_and_changes_nothing(
    make: Callable[..., int], measured: Measured, document: Path
) -> None:
    document.write_text(PLACE.format("other-sets") + PLACE.format("test-mini-details") + PLACE.format("cost"))
    assert make() == 0
    assert measured.subsets == ["test-mini", "dev-mini", "test", "adults", "children", "test-mini"]
    filled = document.read_text()
    assert make() == 0
    assert len(measured.subsets) == 6 and document.read_text() == filled
    assert make("--max_utterances", "2", "--only", "cost") == 0
    assert len(measured.subsets) == 7  # a trial is another measurement


def test_a_table_that_is_not_complete_stays(
    make: Callable[..., int], measured: Measured, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured.failing = {"children"}
    untouched = PLACE.format("other-sets") + PLACE.format("test-clean")
    document.write_text(untouched + PLACE.format("adults-details"))
    assert make() == 1
    assert document.read_text().startswith(untouched)
    assert "| clean     | ttt    | 26.0 (24.0 to 28.0) | -4.1 (-5.0 to -3.0)" in document.read_text()
    told = capsys.readouterr().err
    assert "not measured: children;" in told and "needs --test_clean_dir" in told
    measured.failing = set()
    assert make("--only", "other-sets") == 0
    assert measured.subsets[5:] == ["children"]


def test_tables_of_the_protocol(make: Callable[..., int], measured: Measured, document: Path) -> None:
    names = ("protocol-test-mini-wer", "shifted-test-mini", "protocol-common-voice-delta-cer")
    document.write_text("".join(map(PLACE.format, names)))
    assert make() == 0
    text = re.sub(" +", " ", document.read_text())
    assert "| mp3 | 30.0 | 26.0* | 26.0* | 27.0*" in text and "| mp3 | 10.0 | 6.0* | 6.0* | 7.0*" in text
    assert "| ours, 2 steps | 26.0 | -4.1 (-5.0 to -3.0)" in text
    assert "test-mini: 97 utterances under each of 2 conditions; seed 0" in text


def test_the_check_tells_tables_of_other_weights(
    tables: ModuleType, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(text: str) -> int:
        document.write_text(text)
        with pytest.raises(SystemExit) as stopped:
            tables.main(["--check", "--documents", str(document)])
        return int(stopped.value.code or 0)

    current = PLACE.format("cost").replace("old", f"seed 0; weights {WEIGHTS[:12]}; a CPU.")
    assert check(current) == 0
    assert check(current + current.replace("0123", "9999")) == 1
    assert f"{document}: cost: of weights 9999456789ab\n" in capsys.readouterr().out
    assert check(PLACE.format("cost")) == 1
    assert "cost: of unknown weights" in capsys.readouterr().out
    assert check(PLACE.format("costs")) == 2
    assert "there is no table 'costs'; choose from" in capsys.readouterr().err
    assert check("<!-- table: cost -->\nold\n") == 2
    assert "is not closed" in capsys.readouterr().err


def test_the_layer_memory_is_a_column_for_each_condition(tables: ModuleType) -> None:
    rows = [
        {"condition": condition, "memory": memory, "wer": wer, "wer_interval": [wer, wer]}
        for condition, wer in (("clean", 0.2), ("noise:5", 0.4))
        for memory in ("as it is", "off")
    ]
    rows[1] |= {"wer_difference": 0.01, "wer_difference_interval": [-0.01, 0.03]}
    (name,) = (each for each in tables.MEASUREMENTS if each.name == "layer-memory")
    last = tables.layer_memory([(name, {"results": rows})]).splitlines()[-1]
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    assert cells == ["off", "20.0 (20.0 to 20.0)", "+1.0 (-1.0 to +3.0)", "40.0 (40.0 to 40.0)", ""]


def test_positions_are_a_table_for_each_condition(tables: ModuleType) -> None:
    row = {"seconds": [10, 20], "num_words": 50, "wer": {"as it is": 0.2, "alone": 0.3}}
    row |= {"wer_difference": -0.1, "wer_difference_interval": [-0.15, 0.02]}
    rows = [row | {"condition": condition} for condition in ("clean", "noise:5")]
    (measurement,) = (each for each in tables.MEASUREMENTS if each.name == "layer-memory")
    clean, _, noise, table = tables.layer_memory_by_position([(measurement, {"by_position": rows})]).split("\n\n")
    assert (clean, noise) == ("clean:", "noise:5:")
    cells = [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]
    assert cells == ["10 to 20", "50", "20.0", "30.0", "-10.0 (-15.0 to +2.0)"]


def test_places_of_the_documents_and_commands_are_known(tables: ModuleType, tmp_path: Path) -> None:
    documents = [path for name in tables.DOCUMENTS for path in tables.REPOSITORY.glob(name)]
    card = tables.REPOSITORY / "recipes" / "small" / "model_card.md"
    assert sum(len(tables._places(document)) for document in [*documents, card]) > 10
    values = dict.fromkeys(("data", "by_age", "held_out_noise", "test_clean"), str(tmp_path))
    values["model_methods"] = "none,ttt,ttt:1"
    for measurement in tables.MEASUREMENTS:
        _, program, *flags = measurement.arguments(values)
        if program == "lact_asr_model.cli":
            parsed = evaluate_parser().parse_args(flags[1:])
            assert parsed.beam_size == 50 and parsed.num_threads == 1
    assert {name for table in tables.TABLES for name in table.measurements} == {
        measurement.name for measurement in tables.MEASUREMENTS
    }
