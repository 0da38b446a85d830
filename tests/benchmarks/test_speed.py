"""The benchmarks of speed with tiny models: what they print, and where `--write` puts it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import Wav2Vec2ForCTC

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.audio import load_audio
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

REPOSITORY = Path(__file__).parents[2]
SPEED = (
    *("newton_schulz", "layer_speed", "model_speed", "adaptation_speed", "training_step", "long_audio", "start_up"),
    "gpu_floors",
)
Load = Callable[[str], ModuleType]


def tables_of(printed: str) -> list[list[dict[str, str]]]:
    """The rows of every Markdown table, by the names of their columns."""
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", printed, re.MULTILINE):
        header, _, *rows = [
            [cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()
        ]
        tables.append([dict(zip(header, row, strict=True)) for row in rows])
    return tables


@pytest.fixture
def run(load_benchmark: Load, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[list[dict[str, str]]]]:
    """Runs the short form of a benchmark, with some of the script's constants replaced; gives the tables."""

    def run_quickly(name: str, **constants: object) -> list[list[dict[str, str]]]:
        script = load_benchmark(name)
        with pytest.MonkeyPatch.context() as patch:
            for constant, value in constants.items():
                patch.setattr(script, constant, value)
            script.main(["--quick"])
        printed = capsys.readouterr().out
        assert printed.splitlines()[-1].startswith(f"`python benchmarks/{name}.py --quick`; 1 thread of ")
        return tables_of(printed)

    return run_quickly


def test_a_layer_stands_beside_its_oracle_and_full_attention(run: Callable, tiny_config: HybridASRConfig) -> None:
    (rows,) = run("layer_speed", HybridASRConfig=lambda **changes: tiny_config, LONGEST_OF_ORACLE_SECONDS=1)
    layers = ["layer memory", "layer memory, oracle", "windowed attention", "full attention"]
    assert [row["layer"] for row in rows] == 2 * layers
    assert [row["with backward, s"] == "" for row in rows] == [False] * 5 + [True] + [False] * 2
    assert all(row["/ full attention"] == "1.00" for row in rows if row["layer"] == "full attention")


def test_models_have_operations_and_a_rate(
    run: Callable, tiny_model: HybridASRForCTC, wav2vec2: Wav2Vec2ForCTC, load_benchmark: Load
) -> None:
    (rows,) = run("model_speed", MODELS={"ours": lambda: tiny_model, "wav2vec2": lambda: wav2vec2}, QUICK_SECONDS=(4,))
    assert [row["model"] for row in rows] == ["ours", "wav2vec2"]
    assert all(float(row["audio s / s"]) > 0 for row in rows)


def test_methods_are_compared_in_plain_passes(run: Callable, tiny_model: HybridASRForCTC, processor) -> None:
    (rows,) = run(
        "adaptation_speed",
        load=lambda: HybridAcousticModel(tiny_model, processor),
        load_audio=lambda path: load_audio(path)[:12000],
    )
    assert [row["in plain passes"] for row in rows] == [
        *("plain", "1 exact step", "1 fast step", "2 exact steps", "2 fast steps", "SUTA, 10 steps")
    ]
    assert rows[0]["singles"] == "1.00" and rows[-1]["batches of 2"] == ""
    assert float(rows[3]["singles"]) > 1


def test_a_training_step_has_three_parts_in_both_arithmetics(run: Callable) -> None:
    (rows,) = run("training_step", QUICK_CONFIG=REPOSITORY / "configs" / "tiny_asr_config.json")
    assert [row["arithmetic"] for row in rows] == ["float32", "bfloat16"]
    assert all(float(row["audio s / s"]) > 0 for row in rows)


def test_more_iterations_make_matrices_more_orthogonal(
    run: Callable, tiny_config: HybridASRConfig, tiny_model: HybridASRForCTC, processor
) -> None:
    orthogonality, backward, arithmetic = run(
        "newton_schulz",
        HybridASRConfig=lambda **changes: tiny_config,
        load=lambda: HybridAcousticModel(tiny_model, processor),
        HEAD_SIZE=tiny_config.hidden_size,
        HIDDEN_SIZE=2 * tiny_config.hidden_size,
    )
    assert [(row["schedule"], row["iterations"]) for row in orthogonality] == [
        (schedule, str(number)) for schedule in ("muon", "polar_express", "one triple") for number in (3, 4, 5)
    ]
    of_muon = [float(row["max of abs(σ − 1)"]) for row in orthogonality[:3]]
    assert of_muon[2] < 0.05 < of_muon[0]
    assert len(backward) == 5
    assert len(arithmetic) == 3 and all(0 < float(row["difference"]) < 0.05 for row in arithmetic)


def test_long_audio_and_start_up_are_of_processes(run: Callable, load_benchmark: Load, monkeypatch) -> None:
    measuring = load_benchmark("measuring")
    told = "import time: self [us] | cumulative | imported package\n"
    told += "import time:      3000 |       3000 |   torch._C\nimport time:      1000 |       4000 | torch\n"
    told += "import time:      1000 |       1000 | json\n"
    commands = []

    def run_process(arguments: list[str]) -> object:
        commands.append(arguments)
        return measuring.Usage(30.0, 500.0, told)

    monkeypatch.setattr(measuring, "run_process", run_process)
    (rows,) = run("long_audio")
    assert [(row["real-time factor"], row["peak memory, MB"]) for row in rows] == [("2.000", "500")] * 2
    assert ["--use_ttt" in command for command in commands] == [False, True]
    modes, imports = run("start_up")
    assert [row["processor time, s"] for row in modes] == ["30.00"] * 2
    assert [(row["imported"], row["share"]) for row in imports] == [
        ("all", "100 %"),
        ("torch", "80 %"),
        ("json", "20 %"),
    ]


def test_floors_of_a_gpu_come_from_counts(
    run: Callable, tiny_config: HybridASRConfig, tiny_model: HybridASRForCTC, processor
) -> None:
    (rows,) = run(
        "gpu_floors",
        HybridASRConfig=lambda **changes: tiny_config,
        load=lambda: HybridAcousticModel(tiny_model, processor),
    )
    assert len(rows) == 8
    plain, one_step, two_steps = (int(row["kernels"]) for row in rows[:3])
    assert two_steps > one_step > plain > 0
    for row in rows:
        for number in ("bfloat16", "float32"):
            assert float(row[f"{number}: at least, ms"]) <= float(row[f"{number}: one by one, ms"])


def test_operations_and_bytes_are_counted_by_kernel(load_benchmark: Load) -> None:
    floors = load_benchmark("gpu_floors")
    left, right = torch.ones(3, 4), torch.ones(4, 5)
    with floors.Counts() as counts:
        (left @ right).T.add_(1)
    assert counts.kernels == [(2 * 3 * 4 * 5, 4 * (12 + 20 + 15)), (0, 4 * 15)]
    device = floors.Device(operations=10.0, float32_bytes=4.0)
    assert [device.seconds(20, 4), device.seconds(20, 12)] == [2.0, 3.0]


def test_a_process_is_measured(load_benchmark: Load, capfd: pytest.CaptureFixture[str]) -> None:
    measuring = load_benchmark("measuring")
    usage = measuring.run_process(["-c", "import sys; held = b'x' * 300_000_000; print('told', file=sys.stderr)"])
    assert usage.megabytes > 300 and usage.seconds > 0 and usage.stderr == "told\n"
    with pytest.raises(UserError, match="ended with 3"):
        measuring.run_process(["-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"])
    assert capfd.readouterr().err == "why\n"


def test_an_export_that_fails_is_one_line(
    load_benchmark: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: str) -> None:
        raise UserError(f"{arguments[0]}: ended with 2")

    script = load_benchmark("export")
    monkeypatch.setattr(script, "run_lact_asr", fail)
    with pytest.raises(SystemExit) as stopped:
        script.main(["--data_dir", "nowhere"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: export: ended with 2\n"


def test_all_are_called_in_turn_until_the_time_is_over(load_benchmark: Load) -> None:
    measuring = load_benchmark("measuring")
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in "ab"}
    assert measuring.side_by_side(calls, num_rounds=3).keys() == {"a", "b"}
    assert "".join(called) == "abbaab"
    called.clear()
    measuring.side_by_side(calls, num_rounds=3, limit_seconds=0)
    assert "".join(called) == "ab"


def test_the_figures_go_into_their_place(load_benchmark: Load, tmp_path: Path, capsys) -> None:
    measuring = load_benchmark("measuring")
    document = tmp_path / "document.md"
    place = "<!-- benchmark: {} -->\n{}<!-- end of benchmark -->\n"
    document.write_text("before\n" + place.format("test_speed", "old\n") + place.format("other", "other\n"))

    def measure(arguments: object) -> str:
        return "figures"

    measuring.run(measuring.make_parser(""), measure, ["--write"], document)
    printed = capsys.readouterr().out
    assert printed.startswith("figures\n\n`python benchmarks/test_speed.py`; 1 thread of ")
    assert document.read_text() == "before\n" + place.format("test_speed", printed) + place.format("other", "other\n")
    document.write_text(place.format("other", ""))
    for arguments, complaint in (
        (["--write"], "has no place for test_speed"),
        (["--write", "--quick"], "leave out --quick"),
        (["--num_threads", "0"], "is below 1"),
    ):
        with pytest.raises(SystemExit) as stopped:
            measuring.run(measuring.make_parser(""), measure, arguments, document)
        assert stopped.value.code == 2 and complaint in capsys.readouterr().err


def test_the_page_and_make_have_every_benchmark_of_speed() -> None:
    page = (REPOSITORY / "docs" / "PERFORMANCE.md").read_text()
    assert set(re.findall(r"^<!-- benchmark: (\w+) -->$", page, re.MULTILINE)) == set(SPEED)
    assert set(re.findall(r"^python benchmarks/(\w+)\.py --write$", page, re.MULTILINE)) == set(SPEED)
    (named,) = re.findall(r"for name in ([\w ]+); do", (REPOSITORY / "Makefile").read_text())
    assert set(named.split()) == set(SPEED)


def test_a_process_that_measures_others_stays_small() -> None:
    script = "import sys, measuring, long_audio, start_up; print('torch' in sys.modules)"
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY / "benchmarks", check=True)
    assert result.stdout == "False\n"
