"""An observed model answers as the one it wraps, and what it notes is what happens."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lact_asr_model as lact
from lact_asr_model.acoustic_models.observed import ObservedModel, StepPoint
from lact_asr_model.adaptation.losses import mean_entropy
from lact_asr_model.adaptation.procedure import Adaptation, adapt
from lact_asr_model.recognition.transcriber import Transcriber

OPTIONS = lact.AdaptationOptions(loss_type="entropy_mcc", parameters="front_end", front_end_step=0.05, steps=3)


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)


def observe(folder: Path, samples: np.ndarray, options: lact.AdaptationOptions) -> tuple[Adaptation, ObservedModel]:
    observed = ObservedModel(lact.load(folder), options)
    return adapt(observed, observed.prepare([samples]), options), observed


@pytest.mark.parametrize("kind", ["checkpoint_dir", "wav2vec2_dir"])
def test_it_answers_as_the_model_and_notes_loss_and_entropy(
    kind: str, samples: np.ndarray, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    adaptation, observed = observe(folder, samples, OPTIONS)
    model = lact.load(folder)
    expected = adapt(model, model.prepare([samples]), OPTIONS)
    assert adaptation.losses.tolist() == expected.losses.tolist()
    assert adaptation.logits.equal(expected.logits)
    points = observed.step_points()
    assert len(points) == OPTIONS.steps + 1
    assert [point.loss for point in points[:-1]] == adaptation.losses[:, 0].tolist()
    after = mean_entropy(expected.logits, expected.frame_mask, OPTIONS.temperature, model.blank_id).item()
    assert points[-1].entropy == after
    one_more = adapt(model, model.prepare([samples]), replace(OPTIONS, steps=OPTIONS.steps + 1))
    assert points[-1].loss == pytest.approx(one_more.losses[-1, 0].item(), rel=1e-5)


def test_the_answer_before_adaptation_is_no_step(checkpoint_dir: Path, samples: np.ndarray) -> None:
    options = replace(OPTIONS, loss_type="masked_prediction", unadapted_share=0.5)
    adaptation, observed = observe(checkpoint_dir, samples, options)
    *before, after = observed.step_points()
    assert [point.loss for point in before] == adaptation.losses[:, 0].tolist()
    assert math.isnan(after.loss)
    assert after.entropy > 0


def test_a_recording_that_is_left_alone_has_one_point(checkpoint_dir: Path, samples: np.ndarray) -> None:
    _, observed = observe(checkpoint_dir, samples, replace(OPTIONS, skip_entropy=1e9))
    assert len(observed.step_points()) == 1


def test_several_segments_are_one_curve(checkpoint_dir: Path, samples: np.ndarray) -> None:
    observed = ObservedModel(lact.load(checkpoint_dir), OPTIONS)
    assert observed.step_points() == []
    transcriber = Transcriber(observed, ttt_options=OPTIONS, chunk_seconds=1.0)
    (transcript,) = transcriber.transcribe_samples([np.tile(samples, 2)])
    points = observed.step_points()
    assert [point.loss for point in points[:-1]] == pytest.approx(transcript.ttt_losses)
    assert all(isinstance(point, StepPoint) for point in points)
    assert len(points) == OPTIONS.steps + 1
