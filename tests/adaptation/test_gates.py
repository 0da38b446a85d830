"""The gate before adaptation: leave alone what the model is sure of."""

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.options import SELF_SUPERVISED, AdaptationOptions
from lact_asr_model.adaptation.procedure import Adaptation, adapt

TEMPERATURE = 2.0
TOLERANCE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture
def decisive(decisive: HybridAcousticModel) -> HybridAcousticModel:
    """In double precision: Newton-Schulz makes rounding grow."""
    decisive.model.double()
    return decisive


@pytest.fixture
def batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, "input_values": batch["input_values"].double()}


def plain_logits(model: HybridAcousticModel, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.model(**batch).logits


def entropies_of(logits: Tensor, frame_mask: Tensor) -> Tensor:
    """The mean entropy [batch] of the frames that say something; every utterance has some or gets 0."""
    entropies = []
    for row, mask in zip(logits, frame_mask, strict=True):
        said = row[mask & (row.argmax(dim=-1) != 0)].double()
        probs = torch.softmax(said / TEMPERATURE, dim=-1)
        entropies.append(-(probs * probs.log()).sum() / max(len(said), 1))
    return torch.stack(entropies)


def assert_row_is(adaptation: Adaptation, row: int, expected: Adaptation) -> None:
    for name, weight in adaptation.weights.items():
        torch.testing.assert_close(weight[row], expected.weights[name][row], **TOLERANCE)
    torch.testing.assert_close(adaptation.logits[row], expected.logits[row], **TOLERANCE)


def assert_row_is_plain(adaptation: Adaptation, row: int, plain: Tensor) -> None:
    assert not adaptation.is_adapted[row]
    for name, weight in adaptation.weights.items():
        assert torch.equal(weight[row], adaptation.start[name][row])
    torch.testing.assert_close(adaptation.logits[row], plain[row], **TOLERANCE)


@pytest.mark.parametrize("loss_type", ["entropy", "masked_prediction"])
def test_an_utterance_of_less_entropy_keeps_its_weights_beside_one_that_moves(
    decisive: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str
) -> None:
    values = {"loss_type": loss_type, "steps": 2, "parameters": "both", "temperature": TEMPERATURE}
    free = adapt(decisive, batch, AdaptationOptions(**values))
    assert free.is_adapted.all()
    plain = plain_logits(decisive, batch)
    entropies = entropies_of(plain, free.frame_mask)
    least, middle, most = entropies.sort().values.tolist()
    assert most - middle > 0.01 and middle - least > 0.01
    for threshold in ((least + middle) / 2, (middle + most) / 2):
        gated = adapt(decisive, batch, AdaptationOptions(**values, skip_entropy=threshold))
        assert gated.is_adapted.tolist() == (entropies > threshold).tolist()
        for row, is_adapted in enumerate(gated.is_adapted):
            if is_adapted:
                assert_row_is(gated, row, free)
                assert (gated.logits[row] - plain[row]).abs().max() > 1e-2
            else:
                assert_row_is_plain(gated, row, plain)


@pytest.mark.parametrize("parameters", ["fast_weights", "both"])
@pytest.mark.parametrize("loss_type", SELF_SUPERVISED)
def test_what_is_recognised_with_certainty_takes_no_step(
    decisive: HybridAcousticModel, batch: dict[str, Tensor], loss_type: str, parameters: str
) -> None:
    options = AdaptationOptions(loss_type=loss_type, steps=2, parameters=parameters, skip_entropy=100.0)
    adaptation = adapt(decisive, batch, options)
    torch.testing.assert_close(adaptation.logits, plain_logits(decisive, batch), **TOLERANCE)
    assert not adaptation.is_adapted.any()
    assert not adaptation.logits.requires_grad
    assert (adaptation.losses[0] > 0).all()
    assert not adaptation.losses[1].any()


@pytest.mark.parametrize("parameters", ["fast_weights", "front_end"])
def test_one_sure_utterance_has_exactly_the_plain_logits(
    decisive: HybridAcousticModel, batch: dict[str, Tensor], parameters: str
) -> None:
    one = {"input_values": batch["input_values"][:1]}
    options = AdaptationOptions(loss_type="entropy", parameters=parameters, skip_entropy=100.0)
    assert torch.equal(adapt(decisive, one, options).logits, plain_logits(decisive, one))


@pytest.mark.parametrize("parameters", ["fast_weights", "front_end"])
def test_a_gate_closed_after_the_beginning_leaves_the_whole_transcript(
    decisive: HybridAcousticModel, batch: dict[str, Tensor], parameters: str
) -> None:
    options = AdaptationOptions(loss_type="entropy", parameters=parameters, max_seconds=0.5, skip_entropy=100.0)
    adaptation = adapt(decisive, batch, options)
    assert not adaptation.is_adapted.any()
    torch.testing.assert_close(adaptation.logits, plain_logits(decisive, batch), **TOLERANCE)


def test_what_the_gate_stops_stays_where_it_started_not_where_the_model_is(
    decisive: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    start = adapt(decisive, batch, AdaptationOptions(loss_type="entropy", learning_rate=0.05)).weights
    adaptation = adapt(decisive, batch, AdaptationOptions(loss_type="entropy", skip_entropy=100.0), start)
    with torch.no_grad():
        expected = decisive.model(**batch, weights=start).logits
    assert (expected - plain_logits(decisive, batch)).abs().max() > 1e-2
    torch.testing.assert_close(adaptation.logits, expected, **TOLERANCE)
    assert all(torch.equal(weight, start[name]) for name, weight in adaptation.weights.items())
    assert not adaptation.is_adapted.any()


def test_a_model_that_says_nothing_is_sure(decisive: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    """Without any symbol there is no entropy to lower: the gate lets masked prediction move nothing."""
    with torch.no_grad():
        decisive.model.lm_head.bias[0] = 1000
    for gate, is_adapted in ({}, True), ({"skip_entropy": 1e-3}, False):
        assert adapt(decisive, batch, AdaptationOptions(**gate)).is_adapted.tolist() == [is_adapted] * 3
