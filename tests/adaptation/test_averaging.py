"""The answer as a mean of those before and after adaptation."""

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import SELF_SUPERVISED, AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt

TOLERANCE = {"rtol": 0, "atol": 1e-4}


def log_probs(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1)


def plain_log_probs(model: AcousticModel, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return log_probs(model.model(**batch).logits)


@pytest.mark.parametrize("max_seconds", [0.0, 0.2])
@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_both_answers_count_by_their_share(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str, max_seconds: float
) -> None:
    values = {"loss_type": loss_type, "steps": 2, "parameters": "both", "max_seconds": max_seconds}
    before = plain_log_probs(tiny, batch)
    adapted = adapt(tiny, batch, AdaptationOptions(**values))
    assert adapted.unadapted_logits is None
    after = log_probs(adapted.logits)
    assert (after - before).abs().max() > 1e-2
    mean = adapt(tiny, batch, AdaptationOptions(**values, unadapted_share=0.25))
    torch.testing.assert_close(mean.logits, 0.75 * after + 0.25 * before, **TOLERANCE)
    assert mean.unadapted_logits is not None
    torch.testing.assert_close(log_probs(mean.unadapted_logits), before, **TOLERANCE)
    for name, weight in mean.weights.items():
        torch.testing.assert_close(weight, adapted.weights[name], **TOLERANCE)


@pytest.mark.parametrize("max_seconds", [0.0, 0.3])
def test_any_model_answers_with_the_mean(foreign: AcousticModel, batch: dict[str, Tensor], max_seconds: float) -> None:
    one = {"input_values": batch["input_values"][:1]}
    values = {"loss_type": "entropy_mcc", "steps": 2, "parameters": "norms", "max_seconds": max_seconds}
    before = plain_log_probs(foreign, one)
    after = log_probs(adapt(foreign, one, AdaptationOptions(**values)).logits)
    assert (after - before).abs().max() > 1e-2
    mean = adapt(foreign, one, AdaptationOptions(**values, unadapted_share=0.25))
    torch.testing.assert_close(mean.logits, 0.75 * after + 0.25 * before, **TOLERANCE)


def test_an_utterance_that_the_gate_left_alone_has_its_plain_answer(
    decisive: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    options = AdaptationOptions(loss_type="entropy", skip_entropy=100.0, unadapted_share=0.5)
    adaptation = adapt(decisive, batch, options)
    assert not adaptation.is_adapted.any()
    torch.testing.assert_close(log_probs(adaptation.logits), plain_log_probs(decisive, batch), **TOLERANCE)


def test_speech_without_a_frame_has_no_answer(tiny: HybridAcousticModel) -> None:
    adaptation = adapt(tiny, {"input_values": torch.zeros(1, 10)}, AdaptationOptions(unadapted_share=0.5))
    assert adaptation.logits.shape == (1, 0, tiny.model.config.vocab_size)


def test_without_a_step_the_answer_is_the_plain_one(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    adaptation = adapt(tiny, batch, AdaptationOptions(steps=0, unadapted_share=0.5))
    assert torch.equal(log_probs(adaptation.logits), plain_log_probs(tiny, batch))
