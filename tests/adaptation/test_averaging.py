"""The answer as a mean of those before and after adaptation."""

import pytest
import torch
from torch import Tensor

from lact_asr_model.configuration_hybrid_asr import TTT_LOSS_TYPES
from lact_asr_model.inference.ttt_options import TTTOptions
from lact_asr_model.inference.ttt_procedure import adapt
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

TOLERANCE = {"rtol": 0, "atol": 1e-4}


def log_probs(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1)


@pytest.mark.parametrize("max_seconds", [0.0, 0.2])
@pytest.mark.parametrize("loss_type", TTT_LOSS_TYPES)
def test_both_answers_count_by_their_share(
    tiny_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str, max_seconds: float
) -> None:
    values = {"loss_type": loss_type, "steps": 2, "parameters": "both", "max_seconds": max_seconds}
    with torch.no_grad():
        before = log_probs(tiny_model(*batch).logits)
    adapted = adapt(tiny_model, *batch, TTTOptions(**values))
    after = log_probs(adapted.logits)
    assert (after - before).abs().max() > 1e-2
    mean = adapt(tiny_model, *batch, TTTOptions(**values, unadapted_share=0.25))
    torch.testing.assert_close(mean.logits, 0.75 * after + 0.25 * before, **TOLERANCE)
    for tensor, expected in zip(mean.weights.tensors, adapted.weights.tensors, strict=True):
        torch.testing.assert_close(tensor, expected, **TOLERANCE)


def test_an_utterance_that_a_gate_left_alone_has_its_plain_answer(
    decisive_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    options = TTTOptions(loss_type="entropy", learning_rate=0.0, accept=True, unadapted_share=0.5)
    adaptation = adapt(decisive_model, *batch, options)
    assert not adaptation.is_adapted.any()
    with torch.no_grad():
        plain = log_probs(decisive_model(*batch).logits)
    torch.testing.assert_close(adaptation.logits, plain, **TOLERANCE)


@pytest.mark.parametrize(("loss_type", "num_passes"), [("entropy_mcc", 3), ("masked_prediction", 4)])
def test_it_costs_no_pass_where_the_loss_comes_from_the_plain_answer(
    tiny_model: HybridASRForCTC,
    batch: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    loss_type: str,
    num_passes: int,
) -> None:
    passes = []
    run_stack = tiny_model.run_stack
    monkeypatch.setattr(tiny_model, "run_stack", lambda *args, **kw: passes.append(1) or run_stack(*args, **kw))
    adaptation = adapt(tiny_model, *batch, TTTOptions(loss_type=loss_type, steps=2, unadapted_share=0.5))
    assert adaptation.logits.shape[:2] == adaptation.frame_mask.shape
    assert len(passes) == num_passes


def test_speech_without_a_frame_has_no_answer(tiny_model: HybridASRForCTC) -> None:
    adaptation = adapt(tiny_model, torch.zeros(1, 10), None, TTTOptions(unadapted_share=0.5))
    assert adaptation.logits.shape == (1, 0, tiny_model.config.vocab_size)
