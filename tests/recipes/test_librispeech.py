"""The full-size recipe: its script on a generated LibriSpeech tree, and what its estimate counts."""

import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2Model

from lact_asr_model.checkpoint_io import load_checkpoint
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

REPOSITORY = Path(__file__).parents[2]
RECIPE = REPOSITORY / "recipes" / "librispeech"
TINY_CONFIG = REPOSITORY / "configs" / "tiny_asr_config.json"
WIDTH = 16
SUBSETS = {
    "train-clean-100": ["A CAB", "BAD CAFE", "FACE"],
    "train-other-500": ["DEAF BEE", "A BED"],
    "dev-clean": ["A FACE", "BAD BED"],
    "test-clean": ["A BEE", "DEAD CAB"],
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of LibriSpeech with noise for speech, and a text for the language model."""
    root = tmp_path_factory.mktemp("recipe_data")
    rng = np.random.default_rng(0)
    for speaker, (subset, transcripts) in enumerate(SUBSETS.items(), start=1):
        chapter = root / "LibriSpeech" / subset / str(speaker) / "7"
        chapter.mkdir(parents=True)
        names = [f"{speaker}-7-{number:04d}" for number in range(len(transcripts))]
        for name in names:
            soundfile.write(chapter / f"{name}.flac", rng.normal(scale=0.1, size=12000), 16000)
        lines = [f"{name} {transcript}\n" for name, transcript in zip(names, transcripts, strict=True)]
        (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))
    (root / "librispeech-lm-norm.txt").write_text("A BEE\nA\n")
    return root


@pytest.fixture(scope="module")
def pretrained_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav2vec2 checkpoint with wav2vec2's conv layers, narrow."""
    folder = tmp_path_factory.mktemp("wav2vec2")
    sizes = {"conv_dim": [WIDTH] * 7, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**sizes, num_attention_heads=2, num_conv_pos_embedding_groups=2)).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def kenlm_dir(tmp_path_factory: pytest.TempPathFactory, arpa_text: str) -> Path:
    """In the place of KenLM's programs: the language model is always the same."""
    folder = tmp_path_factory.mktemp("kenlm")
    (folder / "tiny.arpa").write_text(arpa_text)
    last_argument = f'for last in "$@"; do :; done; cp {folder}/tiny.arpa "$last"'
    for program in ("lmplz", "build_binary"):
        (folder / program).write_text(f"#!/bin/sh\n{last_argument}\n")
        (folder / program).chmod(stat.S_IRWXU)
    return folder


def run(work_dir: Path, data_dir: Path, pretrained_dir: Path, kenlm_dir: Path) -> subprocess.CompletedProcess[str]:
    """`run.sh` with two steps in place of 25 epochs."""
    variables = {
        "PYTHON": sys.executable,
        "NPROC": "1",
        "CONFIG": str(TINY_CONFIG),
        "ENCODER": str(pretrained_dir),
        "TRAIN_SUBSET": "train-clean-100+train-other-500",
        "STEPS": "2",
        "FINE_TUNING_STEPS": "2",
        "NUM_WORKERS": "0",
        "LM_TEXT": str(data_dir / "librispeech-lm-norm.txt"),
        "KENLM_DIR": str(kenlm_dir),
        "LM_TRIALS": "1",
        "TEST_SUBSETS": "test-clean",
        "CONDITIONS": "clean,gaussian:0.01",
        "METHODS": "none,ttt:1",
        "OMP_NUM_THREADS": "1",
    }
    command = [RECIPE / "run.sh", data_dir, work_dir]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)


def test_dry_run_of_every_stage(data_dir: Path, pretrained_dir: Path, kenlm_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("kenlm", reason="the lm extra is not installed")
    finished = run(tmp_path, data_dir, pretrained_dir, kenlm_dir)
    assert finished.returncode == 0, finished.stderr
    trainings = {name: json.loads((tmp_path / name / "results.json").read_text()) for name in ("train", "adapted")}
    assert {name: training["step"] for name, training in trainings.items()} == {"train": 2, "adapted": 2}
    assert trainings["train"]["training_data"].startswith("5 utterances")
    assert trainings["train"]["arguments"]["pretrained_encoder"] == str(pretrained_dir)
    model, _ = load_checkpoint(tmp_path / "adapted" / "best_model")
    assert model.config.enable_ttt

    evaluation = json.loads((tmp_path / "results" / "test-clean" / "results.json").read_text())
    rows = {(row["method"], row["condition"]) for row in evaluation["results"]}
    assert rows == {("none", "clean"), ("none", "gaussian:0.01"), ("ttt:1", "clean"), ("ttt:1", "gaussian:0.01")}
    with_lm = json.loads((tmp_path / "results" / "test-clean-lm" / "results.json").read_text())
    assert with_lm["words"]["reference_length"] == 4


@pytest.fixture(scope="module")
def estimate() -> ModuleType:
    """The script as a module."""
    specification = importlib.util.spec_from_file_location("estimate", RECIPE / "estimate.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["estimate"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def tiny_config(**changes: int) -> HybridASRConfig:
    config = HybridASRConfig.from_file(TINY_CONFIG)
    for name, value in {"num_hidden_layers": 1, "layerdrop": 0, "attention_dropout": 0, **changes}.items():
        setattr(config, name, value)
    return config


def test_operations_are_those_of_the_formula(estimate: ModuleType) -> None:
    config = tiny_config(intermediate_size=64)
    narrow = estimate.count_step(config, batch_size=3, seconds=1.0)
    wide = estimate.count_step(tiny_config(intermediate_size=96), batch_size=3, seconds=1.0)
    more = 3 * config.num_frames(16000) * (96 - 64)  # neurons of the feed-forward, over all frames
    assert wide.forward_flops - narrow.forward_flops == 2 * 2 * config.hidden_size * more
    assert wide.total_flops - narrow.total_flops == 3 * (wide.forward_flops - narrow.forward_flops)
    assert narrow.num_parameters == sum(parameter.numel() for parameter in HybridASRForCTC(config).parameters())

    twice = estimate.count_step(config, batch_size=6, seconds=1.0)
    assert twice.total_flops == 2 * narrow.total_flops


def test_operations_with_checkpointing_are_those_of_a_real_step(estimate: ModuleType) -> None:
    config = tiny_config(num_hidden_layers=2)
    cost = estimate.count_step(config, batch_size=2, seconds=1.0)
    with_checkpointing = estimate.with_checkpointing(config, cost, batch_size=2, seconds=1.0)

    model = HybridASRForCTC(config).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 16000), labels=torch.ones(2, 3, dtype=torch.int64)).loss.backward()
    assert with_checkpointing.total_flops == counter.get_total_flops()


def test_the_estimate_is_printed_as_a_table(
    estimate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**json.loads(TINY_CONFIG.read_text()), "num_hidden_layers": 1}))
    estimate.main(
        ["--config_path", str(tmp_path / "config.json"), "--num_gpus", "4", "--epochs", "7", "--hours", "100"]
    )
    time, memory = capsys.readouterr().out.split("\n\n")
    title, _, parameters, *_, last = time.splitlines()
    assert "computed" in title and "H100" in title
    assert parameters.startswith("| parameters | 0.0 M |")
    assert last.startswith("| 7 epochs of 100 h, 4 GPUs |")
    assert "what training chooses on 16 GB | 8 at a time, kept: 0.2 GB" in memory
