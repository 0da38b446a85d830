"""The log of a training, read back by TensorBoard itself."""

import importlib.util
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lact_asr_model.errors import UserError
from lact_asr_model.training.tracking import Tracker, memory_norms


def test_numbers_texts_and_pictures_are_read_back(tmp_path: Path) -> None:
    tracker = Tracker(is_main_process=True)
    tracker.open(tmp_path / "log", step=0, max_steps=4)
    for step, loss in enumerate((3.0, 2.0), start=1):
        tracker.log("train", step, {"loss": loss, "lr": 1e-3 / step})
    tracker.log("transcript", 2, {"utterance-1": "reference: A BEE\n\nhypothesis: A BE"})
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
        UserError, match="--tracker trackio: is not installed; run `pip install trackio`, or leave it out"
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
