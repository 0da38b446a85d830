"""The log of a training, read back from TensorBoard, trackio and wandb."""

import importlib.util
import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.tracking import Tracker, memory_norms, update_angles

TINY_CONFIG = Path(__file__).parents[2] / "configs" / "tiny_asr_config.json"
CHARACTER_SECONDS = 0.12
TRANSCRIPTS = ["A FACE", "BAD BED", "CAFE"]  # of dev-tiny
NUMBERS = {
    *(f"train/{name}" for name in ("loss", "ctc", "masked", "lr", "encoder_lr", "grad_norm")),
    *("train/audio_seconds_per_second", "memory_norm/block_0", "memory_norm/block_1"),
    *("update_angle/block_0", "update_angle/block_1"),
    *(f"validation/{name}" for name in ("loss", "wer", "cer")),
}


def test_numbers_texts_and_pictures_are_read_back(tmp_path: Path) -> None:
    tracker = Tracker(is_main_process=True)
    tracker.open(tmp_path / "log", step=0, max_steps=4)
    for step, loss in enumerate((3.0, 2.0), start=1):
        tracker.log("train", step, {"loss": loss, "lr": 1e-3 / step})
    tracker.log_transcripts("transcript", 2, [{"id": "utterance-1", "ref": "A BEE", "hyp": "A BE"}])
    tracker.log_picture("spectrogram", 2, np.array([[-5.0, 1.0, 7.0]]))
    tracker.close()

    log = EventAccumulator(str(tmp_path / "log")).Reload()
    assert [(event.step, event.value) for event in log.Scalars("train/loss")] == [(1, 3.0), (2, 2.0)]
    assert [event.value for event in log.Scalars("train/lr")] == pytest.approx([1e-3, 5e-4])
    (text,) = log.Tensors("transcript/utterance-1/text_summary")
    assert text.tensor_proto.string_val == [b"reference: A BEE\n\nhypothesis: A BE"]
    (picture,) = log.Images("spectrogram")
    grey = np.asarray(Image.open(BytesIO(picture.encoded_image_string)).convert("L"))
    assert grey.tolist() == [[0, 128, 255]]


def test_a_training_that_goes_on_takes_the_place_of_what_came_after_its_state(tmp_path: Path) -> None:
    for first, losses in ((0, (3.0, 2.0, 9.0)), (2, (1.0,))):
        tracker = Tracker(is_main_process=True)
        tracker.open(tmp_path, step=first, max_steps=4)
        for step, loss in enumerate(losses, start=first + 1):
            tracker.log("train", step, {"loss": loss})
        tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    tracker = Tracker(is_main_process=False)
    tracker.open(tmp_path / "log", step=0, max_steps=4)
    tracker.log("train", 1, {"loss": 1.0})
    tracker.log_picture("spectrogram", 1, np.zeros((2, 2)))
    tracker.close()
    assert not (tmp_path / "log").exists()


def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError,
        match=r'--tracker trackio: is not installed; run `pip install "lact-asr\[tracking\]"`, or leave it out',
    ):
        Tracker(is_main_process=True, name="trackio")


def test_a_training_without_tensorboard_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tensorboard", "tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    tracker = Tracker(is_main_process=True)
    tracker.open(tmp_path / "log", step=0, max_steps=4)
    tracker.log("train", 1, {"loss": 1.0})
    tracker.close()
    assert capsys.readouterr().out.startswith("tensorboard is not installed: no log for it")


def test_the_norm_of_a_block_is_that_of_all_its_fast_weights() -> None:
    layer = {"w0": torch.full((2, 2), 2.0), "w1": torch.full((3, 3), 1.0)}
    assert memory_norms([layer]) == {"block_0": pytest.approx(5.0)}


def test_the_angle_of_a_block_is_that_between_its_fast_weights_before_and_after(tiny_model: HybridASRForCTC) -> None:
    samples = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    tiny_model.train()
    angles = update_angles(tiny_model, samples)
    assert tiny_model.training
    assert list(angles) == [f"block_{index}" for index in range(len(tiny_model.layers))]
    heard, memory = [], tiny_model.layers[0].memory
    handle = memory.register_forward_hook(lambda _, arguments, __: heard.append(arguments))
    with torch.no_grad():
        tiny_model.eval()(samples)
        handle.remove()
        pairs = zip(memory.initial_fast_weights(), memory.learn(*heard[0]), strict=True)
        before, after = (torch.cat([weight.flatten() for weight in each]) for each in zip(*pairs, strict=True))
    cosine = before @ after / (before.norm() * after.norm())
    assert angles["block_0"] == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-3)
    assert 1 < angles["block_0"] < 90


def train_with(tracker: str, data_dir: Path, folder: Path, *options: str, **environment: str) -> list[dict[str, Any]]:
    """A tiny training in a process of its own, and the history that its `results.json` holds."""
    command = [sys.executable, "-m", "lact_asr_model.cli", "train", "--tracker", tracker]
    command += ["--config_path", str(TINY_CONFIG), "--data_dir", str(data_dir), "--output_dir", str(folder / "tiny")]
    command += ["--train_subset", "train-tiny", "--val_subset", "dev-tiny", "--log_every", "1", "--eval_every", "2"]
    command += ["--warmup_steps", "1", "--num_workers", "0", *options]
    subprocess.run(command, env={**os.environ, **environment}, cwd=folder, check=True, capture_output=True)
    return json.loads((folder / "tiny" / "results.json").read_text())["history"]


def wandb_history(run_dir: Path) -> Iterator[dict[str, Any]]:
    """What an offline run logged: blocks of 32 KiB behind a header of 7 bytes, as LevelDB's log has them."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = run_dir.glob("*.wandb")
    content = path.read_bytes()
    place, record = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            items = Record.FromString(record).history.item
            record = b""
            if items:
                yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def check_numbers(logged: list[dict[str, Any]], step_name: str, history: list[dict[str, Any]]) -> None:
    """Every number is there, and the losses are those of `results.json`, step by step."""
    assert {name for values in logged for name in values} >= NUMBERS
    losses = {values[step_name]: values["train/loss"] for values in logged if "train/loss" in values}
    assert losses == {each["step"]: pytest.approx(each["loss"]) for each in history if "loss" in each}


def check_spectrogram(path: Path) -> None:
    """80 bands, and nearly as many frames of 20 ms as the first validation utterance has."""
    with Image.open(path) as picture:
        assert picture.height == 80
        assert picture.width == pytest.approx(50 * CHARACTER_SECONDS * len(TRANSCRIPTS[0]), abs=2)


def test_trackio_keeps_one_log_of_a_training_that_goes_on(
    librispeech_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported, here for the first time
    trackio = pytest.importorskip("trackio", reason="needs the tracking extra")
    from trackio.sqlite_storage import SQLiteStorage

    train_with("trackio", librispeech_dir, tmp_path, "--max_steps", "2")
    history = train_with("trackio", librispeech_dir, tmp_path, "--max_steps", "4", "--resume")
    (run,) = trackio.Api().runs("lact-asr")
    assert run.name == "tiny"
    logged = SQLiteStorage.get_logs("lact-asr", run.name)
    check_numbers(logged, "step", history)
    rows = next(values["transcript"] for values in logged if "transcript" in values)["_value"]
    assert [row["reference"] for row in rows] == TRANSCRIPTS
    picture = next(values["validation/spectrogram"] for values in logged if "validation/spectrogram" in values)
    check_spectrogram(tmp_path / "trackio" / "media" / picture["file_path"])


def test_an_offline_run_of_wandb_holds_everything(librispeech_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs the tracking extra")
    history = train_with("wandb", librispeech_dir, tmp_path, "--max_steps", "2", WANDB_MODE="offline")
    (run_dir,) = (tmp_path / "wandb").glob("offline-run-*")
    logged = list(wandb_history(run_dir))
    check_numbers(logged, "_step", history)
    table = json.loads(next(run_dir.rglob("transcript*.table.json")).read_text())
    assert table["columns"] == ["id", "reference", "hypothesis"]
    assert [row[1] for row in table["data"]] == TRANSCRIPTS
    check_spectrogram(next(run_dir.rglob("spectrogram*.png")))
