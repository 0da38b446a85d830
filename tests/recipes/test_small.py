"""The order and the pieces of `recipes/small/run.sh`, with a stand-in for Python that writes down what it is asked."""

import json
import os
import runpy
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from transformers import Wav2Vec2Processor

from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.data.manifest import read_manifest
from lact_asr_model.data.utterance import Utterance
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

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
*name_speakers*) mkdir -p "$3" ;;
*check_leakage*) [[ -z "$LEAK" || "${{!#}}" != *"$LEAK"* ]] ;;
*train_hybrid_asr*)
    mkdir -p "$(flag "$@")"
    echo '{{"stop_reason": "max_steps", "step": 3}}' >"$(flag "$@")/results.json"
    ;;
esac
"""
ALL_STAGES = [
    *("synthesize_speech", "name_speakers", "check_leakage", "training.moonshine", "fit_head", "robust", "read"),
    *("package_model", "tune-lm", "tune-lm", "tables"),
]
PREPARE = ALL_STAGES[:3]

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
            "INIT_FROM",
            "LEAK",
            "TEST_CLEAN_DIR",
            "HAS_GPU",
            "MOONSHINE",
            "ROBUST_STEPS",
            "READ_STEPS",
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
        is_training = output in {"robust", "read", "adapted"}
        found.append(output if is_training else next(stage for stage in ALL_STAGES if stage in program))
    return found


def test_stages_in_order_on_a_cpu(run: Run, log: Path, tmp_path: Path) -> None:
    finished = run()
    assert finished.returncode == 0, finished.stderr
    assert stages(log) == ALL_STAGES
    commands = log.read_text().splitlines()
    assert "--moonshine UsefulSensors/moonshine-base " in commands[3]
    training, reading = [command for command in commands if "train_hybrid_asr" in command]
    assert f"--init_from {tmp_path}/work/head --config_path configs/small_asr_config.json" in training
    assert f"+{tmp_path}/work/named/an4.jsonl+{tmp_path}/work/speech/manifest.jsonl --val_subset" in training
    assert "--augment" in training and "--mixed_precision" in training and "--max_steps 5000" in training
    assert "--lr_schedule stable" in training and "--join_share 0.6" in training and "--ema_decay 0.995" in training
    assert not any(flag in training for flag in ("--max_minutes", "--enable_ttt"))
    assert f"--init_from {tmp_path}/work/robust/best_model" in reading and "--max_steps 600" in reading
    assert reading.endswith("--val_subset dev-mini --lr_schedule cosine --eval_every 150")
    assert f"{tmp_path}/work/read/best_model {tmp_path}/work/robust {tmp_path}/work/read --output_dir" in commands[-4]
    assert "--use_ttt" not in commands[-3] and commands[-2].endswith("--use_ttt")
    assert f"--documents {tmp_path}/work/bundled_model/README.md" in commands[-1]
    assert not (tmp_path / "work" / "noise" / "rain").exists()  # held out


def test_what_is_done_is_not_done_again(run: Run, log: Path) -> None:
    run(UNTIL="prepare")
    assert stages(log) == PREPARE
    run(UNTIL="train")
    assert stages(log) == ALL_STAGES[:7]
    run()
    assert stages(log) == ALL_STAGES
    run()
    assert stages(log) == [*ALL_STAGES, "tables"]  # which resumes by itself


def test_every_source_is_looked_through_and_a_leak_ends_it(run: Run, log: Path, tmp_path: Path) -> None:
    (tmp_path / "clean" / "LibriSpeech" / "test-clean").mkdir(parents=True)
    assert run(LEAK="dev-mini").returncode == 1
    assert stages(log) == PREPARE
    assert run(LEAK="test-clean", TEST_CLEAN_DIR=str(tmp_path / "clean"), UNTIL="train").returncode == 0
    checks = [command for command in log.read_text().splitlines() if "check_leakage" in command]
    assert checks[2].endswith(f"--held_out {tmp_path}/clean/LibriSpeech/test-clean")
    training = next(line.split() for line in log.read_text().splitlines() if "train_hybrid_asr" in line)
    sources = training[training.index("--train_subset") + 1]
    assert all(f"--train {sources} --held_out" in check for check in checks)


def test_going_on_from_a_checkpoint(run: Run, log: Path, tmp_path: Path) -> None:
    (tmp_path / "former").mkdir()
    run(INIT_FROM=str(tmp_path / "former"), UNTIL="train")
    assert stages(log) == [*PREPARE, "robust", "read"]
    training = log.read_text().splitlines()[-2]
    assert f"--init_from {tmp_path}/former " in training and "--max_steps 1300" in training


def test_a_stage_through_the_adaptation_if_asked_for(run: Run, log: Path, tmp_path: Path) -> None:
    (tmp_path / "moonshine").mkdir()
    run(ADAPTED_STEPS="5", MOONSHINE=str(tmp_path / "moonshine"))
    assert stages(log) == [*ALL_STAGES[:7], "adapted", *ALL_STAGES[7:]]
    commands = log.read_text().splitlines()
    assert f"--moonshine {tmp_path}/moonshine " in commands[3]
    assert f"--init_from {tmp_path}/work/read/best_model" in commands[7] and "--enable_ttt" in commands[7]
    folders = " ".join(f"{tmp_path}/work/{name}" for name in ("adapted/best_model", "robust", "read", "adapted"))
    assert f"{folders} --output_dir" in commands[8]


def test_a_gpu_trains_in_pieces(run: Run, log: Path, tmp_path: Path) -> None:
    paused = run("7", "0", HAS_GPU="1")
    assert paused.returncode == 75
    assert stages(log) == ALL_STAGES[:5]

    (tmp_path / "work" / "robust").mkdir()
    (tmp_path / "work" / "robust" / "results.json").write_text('{"stop_reason": "max_minutes", "step": 2}\n')
    assert run("7", HAS_GPU="1").returncode == 0
    assert stages(log) == ALL_STAGES
    words = next(line.split() for line in log.read_text().splitlines() if "train_hybrid_asr" in line)
    assert "--resume" in words and "--mixed_precision" in words and "0.999" in words
    assert 8 < float(words[words.index("--max_minutes") + 1]) < 9
    assert words[words.index("--seed") + 1] == "7"


def test_usage(tmp_path: Path) -> None:
    finished = subprocess.run([RECIPE, tmp_path], capture_output=True, text=True)
    assert finished.returncode == 2
    assert "recipes/small/run.sh DATA_DIR WORK_DIR [SEED [MAX_MINUTES]]" in finished.stderr
    assert "set -euo" not in finished.stderr


@pytest.fixture
def transcribe_with_whisper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Utterance]], Path]:
    """Runs the script on utterances; the stand-in for Whisper says how many samples it was given."""

    class Whisper:
        hf_tokenizer = SimpleNamespace(get_vocab=dict)

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def transcribe(self, samples: np.ndarray, **_: object) -> tuple[list[SimpleNamespace], None]:
            assert samples.dtype == np.float32
            return [SimpleNamespace(text="a" * len(samples))], None

    def run(utterances: list[Utterance]) -> Path:
        monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Whisper))
        monkeypatch.setattr("lact_asr_model.data.sources.read_utterances", lambda *_: utterances)
        output = tmp_path / "heard.jsonl"
        arguments = ["-", str(tmp_path), "-", str(output), "--model_dir", "-"]
        monkeypatch.setattr("sys.argv", arguments)
        runpy.run_path(str(RECIPE.parent / "transcribe_with_whisper.py"), run_name="__main__")
        return output

    return run


def test_whisper_hears_segments_and_its_manifest_says_where_they_are(
    transcribe_with_whisper: Callable[[list[Utterance]], Path], tmp_path: Path
) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    whole, segment = Utterance("whole", path, None, 1.0), Utterance("segment", path, None, 0.25, offset_seconds=0.5)
    heard = read_manifest(transcribe_with_whisper([whole, segment]))
    assert [len(utterance.text or "") for utterance in heard] == [16000, 4000]
    assert [(each.id, each.offset_seconds, each.duration_seconds) for each in heard] == [
        ("whole", None, 1.0),
        ("segment", 0.5, 0.25),
    ]


def test_whisper_refuses_what_its_manifest_cannot_name(
    transcribe_with_whisper: Callable[[list[Utterance]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        transcribe_with_whisper([Utterance("left", tmp_path / "talk.wav", None, 1.0, channel=0)])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: left: is a part of a file that no manifest can name;")


def test_the_card_of_a_packaged_model(
    tiny_model: HybridASRForCTC, processor: Wav2Vec2Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pretrained_folder(tmp_path / "best_model", tiny_model, processor)
    training = {"arguments": {"batch_seconds": 120, "augment": True, "enable_ttt": False}, "num_processes": 1}
    (tmp_path / "results.json").write_text(json.dumps({**training, "validation": {"step": 1250}}))
    arguments = [RECIPE.parent / "package_model.py", tmp_path / "best_model", tmp_path]
    monkeypatch.setattr("sys.argv", [*map(str, arguments), "--output_dir", str(tmp_path / "packaged")])
    runpy.run_path(str(arguments[0]), run_name="__main__")
    card = (tmp_path / "packaged" / "README.md").read_text()
    assert "CTC and masked prediction | 1250 | 120 s | yes |" in card
    assert "<!-- table: test-clean -->\n<!-- end of table -->" in card
    assert f"steps {tiny_model.config.ttt_steps}" in card
