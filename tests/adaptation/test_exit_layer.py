"""Steps that end at an intermediate CTC head, while the last head answers."""

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.losses import entropy_loss
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt, moving_weights
from lact_asr_model.errors import UserError

TOLERANCE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture
def with_exit(with_exit: HybridAcousticModel) -> HybridAcousticModel:
    """In double precision: Newton-Schulz makes rounding grow."""
    with_exit.model.double()
    return with_exit


@pytest.fixture
def batch(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, "input_values": batch["input_values"].double()}


@pytest.mark.parametrize("changes", [{"parameters": "front_end"}, {"layers": "0-1"}, {"layers": "1"}], ids=str)
@pytest.mark.parametrize("exit_layer", [0, 2, 3])
def test_the_logits_are_those_of_the_head_and_the_answer_is_the_plain_one(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor], exit_layer: int, changes: dict[str, str]
) -> None:
    moving = moving_weights(with_exit, AdaptationOptions(**changes))
    speech = with_exit.listen(batch, moving.learned.keys(), AdaptationOptions(exit_layer=exit_layer))
    heard = speech.hear(moving.copies(3))
    model = with_exit.model
    with torch.no_grad():
        plain = model(**batch).logits
        features, frame_mask = model.encode(**batch)
        state = model.run_stack(features, frame_mask, num_blocks=exit_layer)
        of_head = model.classify_at(state, frame_mask, exit_layer) if exit_layer else plain
    torch.testing.assert_close(heard.logits.detach(), of_head, **TOLERANCE)
    torch.testing.assert_close(heard.answer(), plain, **TOLERANCE)
    assert torch.equal(speech.frame_mask, frame_mask)
    assert not heard.answer().requires_grad
    if exit_layer:
        assert (of_head - plain).abs().max() > 0.1


def test_the_answer_has_the_weights_that_were_heard(with_exit: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    options = AdaptationOptions(loss_type="entropy", parameters="both", layers="0-1", exit_layer=2, learning_rate=0.1)
    weights = adapt(with_exit, batch, options).weights
    speech = with_exit.listen(batch, weights.keys(), options)
    with torch.no_grad():
        adapted = with_exit.model(**batch, weights=weights).logits
    torch.testing.assert_close(speech.hear(weights).answer(), adapted, **TOLERANCE)
    torch.testing.assert_close(speech.recognize(weights)[0], adapted, **TOLERANCE)
    assert (adapted - with_exit.recognize(batch)[0]).abs().max() > 0.1


def test_steps_go_down_the_loss_of_the_head_and_the_last_head_answers(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    options = AdaptationOptions(loss_type="entropy", parameters="front_end", exit_layer=2, steps=1, front_end_step=1e-4)
    adaptation = adapt(with_exit, batch, options)
    model = with_exit.model

    def entropy_at_head(weights: dict[str, Tensor] | None) -> Tensor:
        with torch.no_grad():
            features, frame_mask = model.encode(**batch, weights=weights)
            state = model.run_stack(features, frame_mask, weights=weights, num_blocks=2)
            return entropy_loss(model.classify_at(state, frame_mask, 2), frame_mask, options.temperature)

    before = entropy_at_head(None)
    torch.testing.assert_close(adaptation.losses[0], before.float())
    assert (entropy_at_head(adaptation.weights) < before).all()
    with torch.no_grad():
        torch.testing.assert_close(adaptation.logits, model(**batch, weights=adaptation.weights).logits, **TOLERANCE)
    at_last_head = adapt(with_exit, batch, AdaptationOptions(loss_type="entropy", parameters="front_end"))
    assert (at_last_head.losses[0] - adaptation.losses[0]).abs().max() > 1e-5


def test_a_batch_adapts_as_its_utterances_do_one_by_one(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    options = AdaptationOptions(
        loss_type="entropy_mcc", parameters="both", layers="1", exit_layer=2, steps=2, unadapted_share=0.5
    )
    together = adapt(with_exit, batch, options)
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        alone = adapt(with_exit, {"input_values": batch["input_values"][row : row + 1, :length]}, options)
        frames = alone.logits.shape[1]
        torch.testing.assert_close(together.logits[row, :frames], alone.logits[0], rtol=0, atol=1e-8)


def test_the_gate_judges_by_the_last_head(with_exit: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    """All that the intermediate head says is blank, for which it has no entropy; the last one is as unsure as ever."""
    with torch.no_grad():
        with_exit.model.intermediate_heads["2"].output.bias[0] = 1e3
    options = AdaptationOptions(
        loss_type="entropy_mcc", parameters="front_end", exit_layer=2, skip_entropy=1e-3, temperature=1.0
    )
    with torch.no_grad():
        with_exit.model.lm_head.weight.mul_(100)  # whose answer is clear-cut, but not a blank
    adaptation = adapt(with_exit, batch, options)
    entropies = entropy_loss(with_exit.recognize(batch)[0], adaptation.frame_mask, 1.0)
    assert (entropies > 1e-3).all()
    assert adaptation.unadapted_logits is not None
    torch.testing.assert_close(adaptation.unadapted_logits, with_exit.recognize(batch)[0], **TOLERANCE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exit_layer": 1}, "exit_layer is 1; the model has intermediate heads after blocks 2, 3, and 0 is its last"),
        ({"exit_layer": 4}, "exit_layer is 4; the model has intermediate heads after blocks 2, 3, and 0 is its last"),
        ({"exit_layer": 2}, "do not reach block 3, whose weights are to move: give layers 0-1"),
        ({"exit_layer": 2, "layers": "0,2"}, "do not reach block 2, whose weights are to move: give layers 0-1"),
        ({"exit_layer": 3, "parameters": "both"}, "do not reach block 3, whose weights are to move: give layers 0-2"),
        ({"exit_layer": 2, "parameters": "norms"}, "exit_layer is 2; it goes with front_end and fast_weights only"),
        (
            {"exit_layer": 2, "parameters": "front_end", "loss_type": "masked_prediction"},
            "exit_layer is 2; masked prediction needs all blocks",
        ),
    ],
    ids=str,
)
def test_an_exit_that_cannot_be_is_one_clear_error(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor], changes: dict, message: str
) -> None:
    one = {"input_values": batch["input_values"][:1]}
    with pytest.raises(UserError) as caught:
        adapt(with_exit, one, AdaptationOptions(**{"loss_type": "entropy"} | changes))
    assert str(caught.value).startswith("TTT option exit_layer is ")
    assert message in str(caught.value)


def test_a_model_without_heads_says_so(
    tiny: HybridAcousticModel, foreign: HuggingFaceAcousticModel, batch: dict[str, Tensor]
) -> None:
    options = AdaptationOptions(loss_type="entropy", parameters="front_end", exit_layer=1)
    with pytest.raises(UserError, match="the model has intermediate heads after blocks none, and 0 is its last head"):
        adapt(tiny, batch, options)
    with pytest.raises(UserError, match="this model has its last head only, give 0"):
        adapt(foreign, {"input_values": batch["input_values"][:1].float()}, options)
