"""Fast steps: what they leave out, and that the last pass is exact."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation import procedure
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt, losses_to_lower
from lact_asr_model.adaptation.protocol import Weights
from lact_asr_model.adaptation.steps import take_step
from lact_asr_model.ops.fast_weights.closed_form import FastWeights, renormalize, update_fast_weights
from lact_asr_model.ops.precision import cpu_multiplies_in_bfloat16


def test_first_order_gradients_are_those_of_a_constant_update() -> None:
    torch.manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    weights = FastWeights(random(1, 2, 4, 6), random(1, 2, 6, 4), random(1, 2, 4, 6))
    keys, values, rates = random(1, 2, 9, 4), random(1, 2, 9, 4), torch.rand(3, 1, 2, 9, dtype=torch.float64)
    updated = update_fast_weights(weights, keys, values, rates, first_order=True)
    full = update_fast_weights(weights, keys, values, rates)
    # renorm(w + s) = renorm of the result w + s; s is what the full update adds, up to the columns' norms
    step = FastWeights(*(new.detach() for new in _steps(weights, keys, values, rates)))
    constant = renormalize(FastWeights(*(w + s for w, s in zip(weights, step, strict=True))), weights)
    for ours, other, expected in zip(updated, full, constant, strict=True):
        torch.testing.assert_close(ours, other)
        torch.testing.assert_close(ours, expected)
    inputs = (*weights, keys, values)
    ours = torch.autograd.grad(sum(w.sin().sum() for w in updated), inputs, allow_unused=True)
    expected = torch.autograd.grad(sum(w.sin().sum() for w in constant), inputs[:3])
    torch.testing.assert_close(ours[:3], expected)
    assert ours[3:] == (None, None)


def _steps(weights: FastWeights, keys: Tensor, values: Tensor, rates: Tensor) -> FastWeights:
    from lact_asr_model.ops.fast_weights.closed_form import fast_weight_gradient, orthogonalize

    return orthogonalize(fast_weight_gradient(weights, keys, values, rates), "muon")


@pytest.mark.parametrize("parameters", ["front_end", "fast_weights"])
def test_a_fast_step_lowers_the_loss_and_the_answer_is_exact(
    decisive: HybridAcousticModel, batch: dict[str, Tensor], parameters: str
) -> None:
    options = AdaptationOptions(
        loss_type="entropy_mcc", parameters=parameters, learning_rate=0.01, front_end_step=0.01, speed="fast"
    )
    fast = adapt(decisive, batch, options)
    with torch.no_grad():
        answer = decisive.model(**batch, weights=fast.weights).logits
        speech = decisive.listen(batch, fast.weights.keys(), options)
        after = losses_to_lower(decisive, speech, fast.weights, options)
    torch.testing.assert_close(fast.logits, answer, rtol=0, atol=1e-5)
    share = adapt(decisive, batch, replace(options, unadapted_share=0.5))
    between = torch.lerp(share.unadapted_logits.log_softmax(-1), fast.logits.log_softmax(-1), 0.5)
    torch.testing.assert_close(share.logits, between, rtol=0, atol=1e-4)
    assert {weight.dtype for weight in fast.weights.values()} == {torch.float32}
    assert after.mean() < fast.losses[0].mean()


@pytest.mark.skipif(not cpu_multiplies_in_bfloat16(), reason="this CPU has no instructions for bfloat16")
def test_the_steps_are_in_bfloat16_where_the_processor_is_quick_at_it(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, in_steps = [], []
    classify = tiny.model.classify

    def spy(hidden: Tensor, frame_mask: Tensor) -> Tensor:
        logits = classify(hidden, frame_mask)
        seen.append(tiny.model.lm_head(hidden).dtype)
        return logits

    def spy_on_step(*arguments: Any, **options: Any) -> Weights:
        in_steps.append(torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype)
        return take_step(*arguments, **options)

    monkeypatch.setattr(tiny.model, "classify", spy)
    monkeypatch.setattr(procedure, "take_step", spy_on_step)
    options = AdaptationOptions(loss_type="entropy", parameters="front_end", speed="fast")
    fast = adapt(tiny, batch, options)
    adapt(tiny, batch, replace(options, speed="exact"))
    assert seen == [torch.bfloat16, torch.float32, torch.float32, torch.float32]
    assert in_steps == [torch.bfloat16, torch.float32]
    assert {weight.dtype for weight in fast.weights.values()} == {torch.float32}
