"""The forms of the taught loss: what each lets an utterance learn."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from lact_asr_model.decoding.hypothesis import Hypothesis, Word

VOCABULARY = ["<pad>", "|", "A", "B"]
BLANK = 0


@pytest.fixture
def study(load_study: Callable[[str], ModuleType]) -> ModuleType:
    return load_study("soft_lessons")


def logits_of(probability: float) -> torch.Tensor:
    """[1, 3, 4]: blank, A with this probability and else B, blank."""
    rows = torch.full((3, 4), 1e-4)
    rows[0, 0] = rows[2, 0] = 1
    rows[1, 2:] = torch.tensor([probability, 1 - probability])
    return rows.log()[None]


def reading(study: ModuleType, logits: torch.Tensor, confidence: float = 0.9) -> Any:
    """The beam search took A for the best, and B for the second."""
    other = Hypothesis("B", [Word("B", 1, 2, 0.5)], -2.0)
    best = Hypothesis("A", [Word("A", 1, 2, confidence)], -1.0, [other])
    found = study.read(best, torch.log_softmax(logits[0], dim=-1), VOCABULARY, BLANK)
    assert found is not None
    return found


def test_what_is_read(study: ModuleType) -> None:
    found = reading(study, logits_of(0.4))
    assert found.symbols == [[2], [3]]
    assert found.path.tolist() == [0, 2, 0]
    torch.testing.assert_close(found.posteriors, torch.softmax(torch.tensor([-1.0, -2.0]), dim=0))
    acoustic = torch.tensor([0.4, 0.6]).log()
    torch.testing.assert_close(found.language, torch.tensor([-1.0, -2.0]) - acoustic, atol=1e-2, rtol=0)
    nothing = study.read(Hypothesis("", [], -1.0), torch.zeros(3, 4), VOCABULARY, BLANK)
    assert nothing is None


@pytest.mark.parametrize("name", ["text", "n-best", "words", "near", "risk"])
def test_a_step_down_any_form_makes_the_best_text_more_probable(study: ModuleType, name: str) -> None:
    logits = logits_of(0.4).requires_grad_()
    (gradient,) = torch.autograd.grad(study.FORMS[name](logits, reading(study, logits.detach()), BLANK), logits)
    assert gradient[0, 1, 2] < 0 < gradient[0, 1, 3]


@pytest.mark.parametrize("name", ["text", "words"])
def test_a_doubtful_text_teaches_little(study: ModuleType, name: str) -> None:
    logits = logits_of(0.4)
    sure, doubtful = (study.FORMS[name](logits, reading(study, logits, each), BLANK) for each in (0.9, 0.3))
    torch.testing.assert_close(doubtful, sure / 9)


def test_frames_that_contradict_the_text_are_left_out(study: ModuleType) -> None:
    kept, left_out = (study.near(logits, reading(study, logits), BLANK) for logits in map(logits_of, (0.2, 0.05)))
    assert kept > 0.4
    assert left_out < 0.01


def test_risk_counts_the_errors_of_each_text_by_its_share(study: ModuleType) -> None:
    logits = logits_of(0.4)
    found = reading(study, logits)
    of_a, of_b = found.posteriors.tolist()
    assert study.risk(logits, found, BLANK).item() == pytest.approx(2 * of_a * of_b, abs=1e-3)
    a, b = of_a / 0.4 * 0.99, of_b / 0.6 * 0.01  # the recogniser has become surer; the language model has not changed
    expected = (a * of_b + b * of_a) / (a + b)
    assert study.risk(logits_of(0.99), found, BLANK).item() == pytest.approx(expected, abs=1e-3)
