"""The gates around adaptation: leave alone what the model is sure of, undo what did not help."""

import pytest
import torch
from torch import Tensor

from lact_asr_model.inference.ttt_options import TTTOptions
from lact_asr_model.inference.ttt_procedure import Adaptation, adapt
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

TEMPERATURE = 2.0
TOLERANCE = {"rtol": 0, "atol": 1e-4}


def plain_logits(model: HybridASRForCTC, batch: tuple[Tensor, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(*batch).logits


def symbols_and_entropies(logits: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [batch] that say something, and the mean entropy [batch] of those; every utterance has some or gets 0."""
    entropies = []
    for row, mask in zip(logits, frame_mask, strict=True):
        said = row[mask & (row.argmax(dim=-1) != 0)].double()
        probs = torch.softmax(said / TEMPERATURE, dim=-1)
        entropies.append(-(probs * probs.log()).sum() / max(len(said), 1))
    return ((logits.argmax(dim=-1) != 0) & frame_mask).sum(dim=1), torch.stack(entropies)


def assert_row_is(adaptation: Adaptation, row: int, expected: Adaptation) -> None:
    for tensor, other in zip(adaptation.weights.tensors, expected.weights.tensors, strict=True):
        torch.testing.assert_close(tensor[row], other[row], **TOLERANCE)
    torch.testing.assert_close(adaptation.logits[row], expected.logits[row], **TOLERANCE)


def assert_row_is_plain(adaptation: Adaptation, row: int, plain: Tensor) -> None:
    assert not adaptation.is_adapted[row]
    for tensor, learned in zip(adaptation.weights.tensors, adaptation.start.tensors, strict=True):
        assert torch.equal(tensor[row], learned[row])
    torch.testing.assert_close(adaptation.logits[row], plain[row], **TOLERANCE)


@pytest.mark.parametrize("loss_type", ["entropy", "consistency"])
def test_an_utterance_of_less_entropy_keeps_its_weights_beside_one_that_moves(
    decisive_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str
) -> None:
    values = {"loss_type": loss_type, "steps": 2, "parameters": "both", "temperature": TEMPERATURE}
    free = adapt(decisive_model, *batch, TTTOptions(**values))
    assert free.is_adapted.all()
    plain = plain_logits(decisive_model, batch)
    _, entropies = symbols_and_entropies(plain, free.frame_mask)
    least, middle, most = entropies.sort().values.tolist()
    assert most - middle > 0.01 and middle - least > 0.01
    for threshold in ((least + middle) / 2, (middle + most) / 2):
        gated = adapt(decisive_model, *batch, TTTOptions(**values, skip_entropy=threshold))
        assert gated.is_adapted.tolist() == (entropies > threshold).tolist()
        for row, is_adapted in enumerate(gated.is_adapted):
            if is_adapted:
                assert_row_is(gated, row, free)
                assert (gated.logits[row] - plain[row]).abs().max() > 1e-2
            else:
                assert_row_is_plain(gated, row, plain)


@pytest.mark.parametrize("parameters", ["fast_weights", "both"])
@pytest.mark.parametrize(
    ("loss_type", "num_passes"), [("entropy", 1), ("entropy_mcc", 1), ("masked_prediction", 2), ("consistency", 3)]
)
def test_what_is_recognised_with_certainty_costs_no_second_pass(
    decisive_model: HybridASRForCTC,
    batch: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    loss_type: str,
    num_passes: int,
    parameters: str,
) -> None:
    """The stack runs once for each view that the loss compares, and once for the text if no loss has seen all of it."""
    plain = plain_logits(decisive_model, batch)
    passes = []
    run_stack = decisive_model.run_stack
    monkeypatch.setattr(decisive_model, "run_stack", lambda *args, **kw: passes.append(1) or run_stack(*args, **kw))
    options = TTTOptions(loss_type=loss_type, steps=2, parameters=parameters, skip_entropy=100.0, accept=True)
    adaptation = adapt(decisive_model, *batch, options)
    torch.testing.assert_close(adaptation.logits, plain, **TOLERANCE)
    assert len(passes) == num_passes
    assert not adaptation.is_adapted.any()
    assert not adaptation.logits.requires_grad
    assert (adaptation.losses[0] > 0).all()
    assert not adaptation.losses[1].any()


@pytest.mark.parametrize("parameters", ["fast_weights", "front_end"])
def test_one_sure_utterance_has_exactly_the_plain_logits(
    decisive_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], parameters: str
) -> None:
    one = batch[0][:1], None
    options = TTTOptions(loss_type="entropy", parameters=parameters, skip_entropy=100.0)
    assert torch.equal(adapt(decisive_model, *one, options).logits, plain_logits(decisive_model, one))


@pytest.mark.parametrize(
    ("loss_type", "step"), [("masked_prediction", 0.01), ("masked_prediction", 0.2), ("entropy", 0.05)]
)
def test_only_what_lowered_the_entropy_is_kept(
    decisive_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], loss_type: str, step: float
) -> None:
    values = {"loss_type": loss_type, "parameters": "both", "learning_rate": step, "front_end_step": step}
    free = adapt(decisive_model, *batch, TTTOptions(**values, temperature=TEMPERATURE))
    gated = adapt(decisive_model, *batch, TTTOptions(**values, temperature=TEMPERATURE, accept=True))
    plain = plain_logits(decisive_model, batch)
    symbols_before, entropy_before = symbols_and_entropies(plain, free.frame_mask)
    symbols_after, entropy_after = symbols_and_entropies(free.logits, free.frame_mask)
    assert (2 * symbols_after >= symbols_before).all()
    accepted = entropy_after < entropy_before
    assert accepted.any() and not accepted.all()
    assert gated.is_adapted.tolist() == accepted.tolist()
    for row, is_accepted in enumerate(accepted):
        if is_accepted:
            assert_row_is(gated, row, free)
        else:
            assert_row_is_plain(gated, row, plain)
    with torch.no_grad():
        features, frame_mask = decisive_model.encode(*batch, gated.front_end)
        hidden = decisive_model.run_stack(features, frame_mask, fast_weights=gated.fast_weights)
        torch.testing.assert_close(decisive_model.classify(hidden, frame_mask), gated.logits, **TOLERANCE)
    torch.testing.assert_close(gated.features, features, **TOLERANCE)


def test_falling_silent_is_no_success_whatever_the_entropy(
    decisive_model: HybridASRForCTC, batch: tuple[Tensor, Tensor]
) -> None:
    """A huge step makes the model say blank nearly everywhere, and what is left is said with more certainty."""
    with torch.no_grad():
        decisive_model.lm_head.bias[0] = 11
    values = {"loss_type": "entropy", "parameters": "both", "learning_rate": 0.5, "front_end_step": 0.5}
    free = adapt(decisive_model, *batch, TTTOptions(**values, temperature=TEMPERATURE))
    gated = adapt(decisive_model, *batch, TTTOptions(**values, temperature=TEMPERATURE, accept=True))
    plain = plain_logits(decisive_model, batch)
    symbols_before, entropy_before = symbols_and_entropies(plain, free.frame_mask)
    symbols_after, entropy_after = symbols_and_entropies(free.logits, free.frame_mask)
    fell_silent = 2 * symbols_after < symbols_before
    assert (fell_silent & (entropy_after < entropy_before)).any()
    assert (~fell_silent & (entropy_after < entropy_before)).any()
    assert gated.is_adapted.tolist() == (~fell_silent & (entropy_after < entropy_before)).tolist()
    for row in fell_silent.nonzero().flatten().tolist():
        assert_row_is_plain(gated, row, plain)


@pytest.mark.parametrize("gate", [{"skip_entropy": 100.0}, {"accept": True, "learning_rate": 0.0}])
def test_what_a_gate_stops_stays_where_it_started_not_where_the_model_is(
    decisive_model: HybridASRForCTC, batch: tuple[Tensor, Tensor], gate: dict
) -> None:
    start = adapt(decisive_model, *batch, TTTOptions(loss_type="entropy", learning_rate=0.05)).weights
    adaptation = adapt(decisive_model, *batch, TTTOptions(loss_type="entropy", **gate), start)
    with torch.no_grad(), start.in_use(decisive_model):
        expected = decisive_model(*batch).logits
    assert (expected - plain_logits(decisive_model, batch)).abs().max() > 1e-2
    torch.testing.assert_close(adaptation.logits, expected, **TOLERANCE)
    assert all(torch.equal(a, b) for a, b in zip(adaptation.weights.tensors, start.tensors, strict=True))
    assert not adaptation.is_adapted.any()
