"""The recipe for models of another architecture: how a student starts, learns and goes on."""

import importlib.util
import os
import stat
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

RECIPE = Path(__file__).parents[2] / "recipes" / "foreign"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_student", RECIPE / "train_student.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def teacher(recipe: ModuleType) -> HybridASRForCTC:
    return recipe.make_teacher()[0]


def test_the_first_layers_hand_the_samples_on(recipe: ModuleType, teacher: HybridASRForCTC, monkeypatch) -> None:
    monkeypatch.setattr(recipe, "INITIAL_NOISE", 0.0)
    torch.manual_seed(0)
    student = recipe.make_student("wav2vec2", teacher).eval()
    samples = torch.randn(1, 32000)
    samples = (samples - samples.mean()) / samples.std()
    hidden = samples[:, None]
    layers = student.base_model.feature_extractor.conv_layers
    with torch.no_grad():
        for layer in layers[:4]:
            hidden = layer(hidden)
        handed_on = hidden[:, 0::2] - hidden[:, 1::2]  # [1, samples of a frame, frames]
        expected = samples.unfold(1, 40, 40).mT[..., : handed_on.shape[-1]]
        torch.testing.assert_close(handed_on, expected, rtol=0.05, atol=0.05)  # the norm is each position's own
        filters = teacher.encoder.conv_layers[0].conv.weight[:, 0, :120]
        with_filters = filters @ samples[0].unfold(0, 120, 80).mT  # [filters, frames]
        heard = layers[4].conv(hidden)[0, : recipe.NUM_FILTERS]
    distances = torch.cdist(heard, with_filters[:, : heard.shape[1]]).min(dim=1).values
    assert (distances / heard.norm(dim=1)).max() < 0.15


def test_the_teacher_hears_the_students_frames(recipe: ModuleType, teacher: HybridASRForCTC) -> None:
    student = recipe.make_student("hubert", teacher)
    samples, lengths = torch.randn(2, 6000), torch.tensor([6000, 4321])
    mask = (torch.arange(6000) < lengths[:, None]).long()
    inputs = {"input_values": samples, "attention_mask": mask}
    states, logits = recipe.teach(teacher, inputs)
    hidden, frame_mask = recipe.embed(student, inputs)
    assert hidden.shape == states[0].shape == (*logits.shape[:2], teacher.config.hidden_size)
    assert len(states) == teacher.config.num_hidden_layers + 1
    assert frame_mask.sum(dim=1).tolist() == [18, 13]
    assert torch.equal(frame_mask, recipe.teacher_features(teacher, inputs)[1])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    import soundfile

    rng = np.random.default_rng(0)
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(scale=0.1, size=16000), 16000)
    lines = [f'{{"audio_filepath": "{number}.wav", "text": "a b", "duration": 1.0}}\n' for number in range(2)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    return tmp_path


def test_training_lowers_the_loss_and_goes_on(recipe: ModuleType, data_dir: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(recipe, "FITTED_BATCHES", 2)

    def train(kind: str, max_steps: int, *flags: str) -> list[dict[str, float]]:
        arguments = ["--kind", kind, "--max_steps", str(max_steps), "--data_dir", str(data_dir), "--log_every", "1"]
        arguments += ["--train_subset", "train.jsonl", "--output_dir", str(data_dir / kind), *flags]
        recipe.main(arguments)
        lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
        return [
            {name: float(value) for name, value in zip(line[2::2], line[3::2], strict=False) if name in TERMS}
            for line in lines
        ]

    first = train("wav2vec2", 3, "--front_end_steps", "1", "--taught_steps", "1")
    assert [set(terms) for terms in first] == [{"features"}, TERMS, TERMS]
    assert first[0]["features"] < 1  # the fitted projection says more than the mean
    model = load(data_dir / "wav2vec2")
    logits, _ = model.recognize(model.prepare([np.ones(16000, dtype=np.float32)]))
    assert logits.shape == (1, 49, len(model.vocabulary)) and logits.isfinite().all()
    assert len(train("wav2vec2", 4)) == 1  # goes on at step 3
    assert train("wav2vec2", 4) == []
    train("wavlm", 1, *WITHOUT_PHASES)
    assert load(data_dir / "wavlm").model.config.model_type == "wavlm"


def speech(teacher: HybridASRForCTC) -> dict[str, torch.Tensor]:
    samples = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    return {"input_values": samples, "attention_mask": torch.ones(2, 16000, dtype=torch.long)}


def test_fewer_neurons_give_nearly_what_all_of_them_gave(recipe: ModuleType, teacher: HybridASRForCTC) -> None:
    student = recipe.make_student("wavlm", teacher)
    recipe.fit_feed_forward(student, teacher, [speech(teacher)])
    heard: list[torch.Tensor] = []
    handles = [
        block.feed_forward_norm.register_forward_hook(lambda _, __, output: heard.append(output))
        for block in teacher.layers
    ]
    recipe.teach(teacher, speech(teacher))
    for handle in handles:
        handle.remove()
    for layer, block, hidden in zip(student.base_model.encoder.layers, teacher.layers, heard, strict=True):
        with torch.no_grad():
            ours, theirs = layer.feed_forward(hidden), block.feed_forward(hidden)
        assert (ours - theirs).norm() < 0.1 * theirs.norm()


def test_blocks_that_share_tables_are_told_apart_by_shares_and_places(recipe: ModuleType) -> None:
    tables = torch.randn(3, 21, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor([[1.0, 2.0, 0.5], [0.3, 1.0, 3.0], [1.0, 1.0, 1.0]])
    places = [[0, 1, 2], [2, 0, 1], [1, 0, 2]]
    by_distance = torch.stack([share[place, None] * tables[place] for share, place in zip(shares, places, strict=True)])
    found, heads, found_shares = recipe.shared_tables(by_distance)
    rebuilt = found_shares[..., None] * found
    for block, of_block in enumerate(by_distance):
        torch.testing.assert_close(rebuilt[block], of_block[heads[block]], rtol=0, atol=1e-4)


def test_a_wavlm_attends_by_distance_as_the_teacher_does_on_average(
    recipe: ModuleType, teacher: HybridASRForCTC
) -> None:
    student = recipe.make_student("wavlm", teacher)
    recipe.fit_distances(student, teacher, [speech(teacher)])
    by_distance = recipe.attention_by_distance(teacher, [speech(teacher)])
    tables, heads, shares = recipe.shared_tables(by_distance)
    layers = student.base_model.encoder.layers
    radius, near = by_distance.shape[-1] // 2, 40
    bias = layers[0].attention.compute_bias(near + 1, near + 1).detach()  # [heads, queries, keys]
    expected = tables[:, radius : radius + near + 1]
    torch.testing.assert_close(bias[:, 0], expected)
    for layer, taken, share in zip(layers, heads, shares, strict=True):
        gate = (0.5 * (0.5 * layer.attention.gru_rel_pos_const - 1) + 2).flatten()
        torch.testing.assert_close(gate, share)
        assert sorted(taken) == list(range(teacher.config.num_attn_heads))


TERMS = {"features", "states", "teacher", "ctc"}
WITHOUT_PHASES = ("--front_end_steps", "0", "--taught_steps", "0")


def test_the_script_trains_chooses_and_then_reports(tmp_path: Path) -> None:
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(f'#!/bin/bash\necho "$@" >>{log}\n')
    python.chmod(stat.S_IRWXU)
    for name in ("data", "noise", "rain"):
        (tmp_path / name).mkdir()
    command = [RECIPE / "run.sh", *(tmp_path / name for name in ("data", "noise", "rain", "work"))]
    environment = {**os.environ, "PYTHON": str(python)}
    subprocess.run(command, env={**environment, "UNTIL": "choose"}, check=True, capture_output=True)
    commands = log.read_text().splitlines()
    assert f"--output_dir {tmp_path}/work/wavlm" in commands[0]
    assert len(commands) == 1 + 13
    assert not any("test-mini" in line or f"{tmp_path}/rain" in line for line in commands)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    added = log.read_text().splitlines()[len(commands) :]
    tables = [line for line in added if "train_student" not in line]
    assert len(tables) == 1
    assert all("--subset test-mini" in line and f"--noise_dir {tmp_path}/rain" in line for line in tables)


def test_usage(tmp_path: Path) -> None:
    finished = subprocess.run([RECIPE / "run.sh", tmp_path], capture_output=True, text=True)
    assert finished.returncode == 2
    assert "recipes/foreign/run.sh DATA_DIR NOISE_DIR HELD_OUT_NOISE_DIR WORK_DIR" in finished.stderr
