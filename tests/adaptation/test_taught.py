"""Taught losses: the CTC loss of a lesson, and adaptation that learns it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.hugging_face import HuggingFaceAcousticModel
from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.lessons import Lesson, taught_loss
from lact_asr_model.adaptation.losses import entropy_mcc_loss
from lact_asr_model.adaptation.options import TAUGHT, AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt, losses_to_lower, moving_weights
from lact_asr_model.errors import UserError

LESSONS = [Lesson([5, 6, 5], 1.0), Lesson([7], 0.5), Lesson([5, 5], 0.8)]


def probability(probs: Tensor, labels: Sequence[int]) -> float:
    """Of a text, by adding up all paths of two or three frames; 0 is the blank."""
    total = 0.0
    for path in torch.cartesian_prod(*[torch.arange(probs.shape[1])] * len(probs)).tolist():
        collapsed = [symbol for index, symbol in enumerate(path) if index == 0 or symbol != path[index - 1]]
        if [symbol for symbol in collapsed if symbol] == list(labels):
            total += float(torch.stack([probs[frame, symbol] for frame, symbol in enumerate(path)]).prod())
    return total


def test_the_loss_is_that_of_all_paths_per_symbol_and_by_confidence() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, dtype=torch.float64)
    frame_mask = torch.tensor([[True, True, True], [True, True, False]])
    losses = taught_loss(logits, frame_mask, [Lesson([1, 2], 0.5), Lesson([3], 1.0)])
    probs = logits.softmax(dim=-1)
    expected = [0.25 * -_log(probability(probs[0], [1, 2])) / 2, -_log(probability(probs[1, :2], [3]))]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


def _log(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).log())


@pytest.mark.parametrize("lesson", [Lesson([], 1.0), Lesson([1, 2, 3, 1], 1.0), Lesson([1], 0.0)], ids=str)
def test_nothing_to_learn_is_a_loss_and_a_gradient_of_zero(lesson: Lesson) -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss = taught_loss(logits, torch.ones(1, 3, dtype=torch.bool), [lesson])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss_type", TAUGHT)
@pytest.mark.parametrize("parameters", ["fast_weights", "front_end", "both"])
def test_a_small_step_lowers_the_loss_of_what_the_teacher_said_before_the_first_step(
    tiny: HybridAcousticModel, batch: dict[str, Tensor], parameters: str, loss_type: str
) -> None:
    heard = []

    def teacher(logits: Tensor, frame_mask: Tensor) -> list[Lesson]:
        heard.append((logits, frame_mask))
        return LESSONS

    options = AdaptationOptions(
        loss_type=loss_type, parameters=parameters, learning_rate=1e-4, front_end_step=1e-4, steps=2
    )
    adaptation = adapt(tiny, batch, options, teacher=teacher)
    plain, plain_mask = tiny.recognize(batch)
    ((logits, frame_mask),) = heard
    torch.testing.assert_close(logits, plain, rtol=0, atol=1e-5)
    assert torch.equal(frame_mask, plain_mask)
    expected = taught_loss(plain, plain_mask, LESSONS)
    if loss_type == "lm_entropy_mcc":
        expected = expected + entropy_mcc_loss(plain, plain_mask, options.temperature)
    torch.testing.assert_close(adaptation.losses[0], expected, rtol=1e-4, atol=1e-5)
    assert (adaptation.losses[1] < adaptation.losses[0]).all()


def test_the_lesson_is_learned_at_the_intermediate_head_from_the_answer_of_the_last(
    with_exit: HybridAcousticModel, batch: dict[str, Tensor]
) -> None:
    options = AdaptationOptions(loss_type="lm", parameters="front_end", exit_layer=2, front_end_step=1e-4, steps=2)
    heard = []
    adaptation = adapt(with_exit, batch, options, teacher=lambda *answer: heard.append(answer[0]) or LESSONS)
    torch.testing.assert_close(heard[0], with_exit.recognize(batch)[0], rtol=0, atol=1e-4)
    moving = moving_weights(with_exit, options)
    speech = with_exit.listen(batch, moving.learned.keys(), options)
    with torch.no_grad():
        at_head = losses_to_lower(with_exit, speech, moving.copies(3), options, LESSONS)
    torch.testing.assert_close(adaptation.losses[0], at_head, rtol=1e-4, atol=1e-5)


def test_a_model_of_transformers_learns_too(foreign: HuggingFaceAcousticModel, batch: dict[str, Tensor]) -> None:
    inputs = {"input_values": batch["input_values"][:1]}
    options = AdaptationOptions(loss_type="lm", parameters="front_end", front_end_step=1e-3, steps=2)
    losses = adapt(foreign, inputs, options, teacher=lambda logits, frame_mask: LESSONS[:1]).losses
    assert losses[1] < losses[0]


def test_an_utterance_without_a_lesson_keeps_its_weights(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    lessons = [LESSONS[0], replace(LESSONS[1], labels=[]), LESSONS[2]]
    options = AdaptationOptions(loss_type="lm", parameters="both", learning_rate=0.1)
    adaptation = adapt(tiny, batch, options, teacher=lambda logits, frame_mask: lessons)
    assert adaptation.is_adapted.tolist() == [True, False, True]


def test_without_a_teacher_it_is_one_line(tiny: HybridAcousticModel, batch: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="loss_type is 'lm'.*beam size of 50"):
        adapt(tiny, batch, AdaptationOptions(loss_type="lm"))
