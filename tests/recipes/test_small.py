"""The order and the pieces of `recipes/small/run.sh`, with a stand-in for Python that writes down what it is asked."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "small" / "run.sh"
NOISES = ("clock_tick", "dog_bark", "fire_crackling", "rooster", "sea_waves", "rain")
STAND_IN = """#!/bin/bash
if [ "$1" = -c ]; then
    [[ $2 = *cuda* && -n "$HAS_GPU" ]]
    exit
fi
echo "$@" >>"{log}"
flag() {{ while [ "$1" != "$name" ]; do shift; done; echo "$2"; }}
name=--output_dir
case "$*" in
*training.moonshine* | *fit_head*) mkdir -p "$(flag "$@")" ;;
*train_hybrid_asr*)
    mkdir -p "$(flag "$@")"
    echo '{{"stop_reason": "max_steps", "step": 3}}' >"$(flag "$@")/results.json"
    ;;
esac
"""
ALL_STAGES = [
    *("synthesize_speech", "training.moonshine", "fit_head", "robust", "dev-mini", "test-mini"),
    *("split_by_age", "speechocean762-test", "package_model", "tune-lm"),
]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "commands"


@pytest.fixture
def run(tmp_path: Path, log: Path) -> Run:
    """Run the recipe in DATA_DIR and WORK_DIR, with the given variables."""
    python = tmp_path / "python"
    python.write_text(STAND_IN.format(log=log))
    python.chmod(stat.S_IRWXU)
    for noise in NOISES:
        (tmp_path / "data" / "noise" / noise).mkdir(parents=True)

    def run_recipe(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        unset = {
            "CONFIG",
            "MAX_MINUTES",
            "UNTIL",
            "WHISPER_DIR",
            "HAS_GPU",
            "MOONSHINE",
            "PIPER_VOICE",
            "ROBUST_STEPS",
            "ADAPTED_STEPS",
        }
        inherited = {name: value for name, value in os.environ.items() if name not in unset}
        environment = {**inherited, "PYTHON": str(python), **variables}
        command = [RECIPE, tmp_path / "data", tmp_path / "work", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run_recipe


def stages(log: Path) -> list[str]:
    """Which of the stages the recorded commands are, in their order."""
    found = []
    for command in log.read_text().splitlines() if log.exists() else []:
        words = command.split()
        output = Path(words[words.index("--output_dir") + 1]).name if "--output_dir" in words else ""
        program = " ".join(words[1:3]) if words[0] == "-m" else words[0]
        found.append(
            output if output in {*ALL_STAGES, "adapted"} else next(stage for stage in ALL_STAGES if stage in program)
        )
    return found


def test_stages_in_order_on_a_cpu(run: Run, log: Path, tmp_path: Path) -> None:
    finished = run()
    assert finished.returncode == 0, finished.stderr
    assert stages(log) == ALL_STAGES
    assert "unlabelled speech: left out, as WHISPER_DIR names no model" in finished.stdout
    commands = log.read_text().splitlines()
    assert "--moonshine UsefulSensors/moonshine-base " in commands[1]
    (training,) = [command for command in commands if "train_hybrid_asr" in command]
    assert f"--init_from {tmp_path}/work/head --config_path configs/small_asr_config.json" in training
    assert "--augment" in training and "--mixed_precision" in training
    assert not any(flag in training for flag in ("--max_minutes", "--ema_decay", "--enable_ttt"))
    (packaging,) = [command for command in commands if "package_model" in command]
    assert f"{tmp_path}/work/robust/best_model {tmp_path}/work/robust --results" in packaging
    assert not (tmp_path / "work" / "noise" / "rain").exists()  # held out


def test_what_is_done_is_not_done_again(run: Run, log: Path) -> None:
    run(UNTIL="prepare")
    assert stages(log) == ["synthesize_speech"]
    run(UNTIL="train")
    assert stages(log) == ["synthesize_speech", "training.moonshine", "fit_head", "robust"]
    run()
    assert stages(log) == ALL_STAGES


def test_a_stage_through_the_adaptation_if_asked_for(run: Run, log: Path, tmp_path: Path) -> None:
    (tmp_path / "moonshine").mkdir()
    run(ADAPTED_STEPS="5", MOONSHINE=str(tmp_path / "moonshine"))
    assert stages(log) == [*ALL_STAGES[:4], "adapted", *ALL_STAGES[4:]]
    commands = log.read_text().splitlines()
    assert f"--moonshine {tmp_path}/moonshine " in commands[1]
    assert f"--init_from {tmp_path}/work/robust/best_model" in commands[4] and "--enable_ttt" in commands[4]
    evaluations = [command for command in commands if " evaluate " in command]
    assert all(f"--checkpoint {tmp_path}/work/adapted/best_model" in command for command in evaluations)


def test_a_gpu_trains_in_pieces(run: Run, log: Path, tmp_path: Path) -> None:
    paused = run("7", "0", HAS_GPU="1")
    assert paused.returncode == 75
    assert stages(log) == ["synthesize_speech", "training.moonshine", "fit_head"]

    (tmp_path / "work" / "robust").mkdir()
    (tmp_path / "work" / "robust" / "results.json").write_text('{"stop_reason": "max_minutes", "step": 2}\n')
    assert run("7", HAS_GPU="1").returncode == 0
    assert stages(log) == ALL_STAGES
    (words,) = [command.split() for command in log.read_text().splitlines() if "train_hybrid_asr" in command]
    assert "--resume" in words and "--mixed_precision" in words and "--ema_decay" in words
    assert 8 < float(words[words.index("--max_minutes") + 1]) < 9
    assert words[words.index("--seed") + 1] == "7"


def test_transcripts_of_unlabelled_speech_are_trained_on(run: Run, log: Path, tmp_path: Path) -> None:
    assert "faster-whisper is not installed" in run(UNTIL="prepare", WHISPER_DIR="model").stdout
    (tmp_path / "work" / "pseudo").mkdir()
    (tmp_path / "work" / "pseudo" / "manifest.jsonl").touch()
    assert "left out" not in run(UNTIL="train").stdout
    trainings = [command for command in log.read_text().splitlines() if "train_hybrid_asr" in command]
    assert all(f"+{tmp_path}/work/pseudo/manifest.jsonl --val_subset" in command for command in trainings)


def test_a_piper_voice_speaks_once_and_is_trained_on(run: Run, log: Path, tmp_path: Path) -> None:
    run("4", UNTIL="prepare", PIPER_VOICE=str(tmp_path / "joe.onnx"))
    run("4", UNTIL="train", PIPER_VOICE=str(tmp_path / "joe.onnx"))
    commands = log.read_text().splitlines()
    assert [command.split()[0] for command in commands[:3]].count("recipes/small/synthesize_speech.py") == 2
    assert f" {tmp_path}/work/piper " in commands[1]
    assert commands[1].endswith(f" --seed 5 --piper_voice {tmp_path}/joe.onnx")
    (training,) = [command for command in commands if "train_hybrid_asr" in command]
    assert f"+{tmp_path}/work/piper/manifest.jsonl --val_subset" in training


def test_usage(tmp_path: Path) -> None:
    finished = subprocess.run([RECIPE, tmp_path], capture_output=True, text=True)
    assert finished.returncode == 2
    assert "recipes/small/run.sh DATA_DIR WORK_DIR [SEED [MAX_MINUTES]]" in finished.stderr
    assert "set -euo" not in finished.stderr
