import math

import pytest
import torch
from torch import Tensor

from lact_asr_model.adaptation.losses import (
    entropy_loss,
    entropy_mcc_loss,
    mean_entropy,
    minimum_class_confusion_loss,
)

TEMPERATURE = 2.5
LENGTHS = [9, 5, 1]


@pytest.fixture
def logits() -> Tensor:
    torch.manual_seed(0)
    return (3 * torch.randn(len(LENGTHS), max(LENGTHS), 6, dtype=torch.float64)).requires_grad_()


@pytest.fixture
def frame_mask() -> Tensor:
    return torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def entropy(probs: Tensor) -> Tensor:
    return -sum(p * torch.log(p) for p in probs)


def naive_entropy_loss(frames: Tensor) -> Tensor:
    """One utterance, [frames, vocab], symbol 0 the blank."""
    entropies = [entropy(torch.softmax(z / TEMPERATURE, 0)) for z in frames if int(z.argmax()) != 0]
    return torch.stack(entropies).mean() if entropies else frames.sum() * 0


def naive_confusion_loss(frames: Tensor) -> Tensor:
    """MCC as the paper writes it, one utterance, class by class."""
    probs = [torch.softmax(z / TEMPERATURE, 0) for z in frames]
    raw_weights = [1 + math.exp(-float(entropy(p).detach())) for p in probs]
    weights = [len(frames) * weight / sum(raw_weights) for weight in raw_weights]
    num_classes = frames.shape[1]
    confusion = [
        [sum(w * p[i] * p[j] for w, p in zip(weights, probs, strict=True)) for j in range(num_classes)]
        for i in range(num_classes)
    ]
    loss = 0
    for i, row in enumerate(confusion):
        total = sum(row)
        loss = loss + sum(c / total for j, c in enumerate(row) if j != i)
    return loss / num_classes


def naive_both(frames: Tensor) -> Tensor:
    return 0.3 * naive_entropy_loss(frames) + 0.7 * naive_confusion_loss(frames)


@pytest.mark.parametrize(
    ("loss", "naive"),
    [
        (entropy_loss, naive_entropy_loss),
        (minimum_class_confusion_loss, naive_confusion_loss),
        (entropy_mcc_loss, naive_both),
    ],
)
def test_losses_and_gradients_equal_the_formulas(logits: Tensor, frame_mask: Tensor, loss, naive) -> None:
    values = loss(logits, frame_mask, TEMPERATURE)
    expected = torch.stack([naive(row[:length]) for row, length in zip(logits, LENGTHS, strict=True)])
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", [entropy_loss, minimum_class_confusion_loss, entropy_mcc_loss])
def test_padding_has_no_influence_even_when_infinite(logits: Tensor, frame_mask: Tensor, loss) -> None:
    padded = logits.detach().clone()
    padded[~frame_mask] = -math.inf
    padded[..., 0][~frame_mask] = 0
    padded.requires_grad_()
    values = loss(padded, frame_mask, TEMPERATURE)
    torch.testing.assert_close(values, loss(logits, frame_mask, TEMPERATURE), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(values.sum(), padded)
    assert gradient.isfinite().all()
    assert not gradient[~frame_mask].any()


def test_an_all_blank_utterance_has_zero_entropy_loss_and_zero_gradient(logits: Tensor, frame_mask: Tensor) -> None:
    blank = logits.detach().clone()
    blank[0, :, 0] = 20
    blank.requires_grad_()
    values = entropy_loss(blank, frame_mask, TEMPERATURE)
    (gradient,) = torch.autograd.grad(values.sum(), blank)
    assert values[0] == 0
    assert not gradient[0].any()
    assert gradient[1].any()


@pytest.mark.parametrize("loss", [entropy_loss, minimum_class_confusion_loss, entropy_mcc_loss])
def test_an_utterance_without_frames_gives_zero(loss) -> None:
    logits = torch.randn(2, 4, 6, requires_grad=True)
    values = loss(logits, torch.zeros(2, 4, dtype=torch.bool), TEMPERATURE)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert values.tolist() == [0, 0]
    assert not gradient.any()


def test_confusion_is_zero_for_certain_frames_and_large_for_flat_ones() -> None:
    certain = 200 * torch.eye(6)[None].double()
    frame_mask = torch.ones(1, 6, dtype=torch.bool)
    assert minimum_class_confusion_loss(certain, frame_mask, 1.0).item() == pytest.approx(0, abs=1e-12)
    assert minimum_class_confusion_loss(0 * certain, frame_mask, 1.0).item() == pytest.approx(5 / 6)


@pytest.mark.parametrize("loss", [entropy_loss, minimum_class_confusion_loss, entropy_mcc_loss])
def test_very_sure_logits_of_low_precision_stay_finite(loss) -> None:
    logits = torch.zeros(1, 3, 6, dtype=torch.bfloat16)
    logits[..., 3] = 1e4
    logits.requires_grad_()
    values = loss(logits, torch.ones(1, 3, dtype=torch.bool), TEMPERATURE)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert gradient.isfinite().all()


def test_mean_entropy_is_the_loss_without_its_gradient(logits: Tensor, frame_mask: Tensor) -> None:
    values = mean_entropy(logits, frame_mask, TEMPERATURE)
    expected = torch.stack([naive_entropy_loss(row[:length]) for row, length in zip(logits, LENGTHS, strict=True)])
    torch.testing.assert_close(values, expected.detach(), rtol=0, atol=1e-12)
    assert not values.requires_grad
