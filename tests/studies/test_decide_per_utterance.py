"""The rules that choose between the answers before and after adaptation."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from lact_asr_model.decoding.greedy import GreedyDecoder

VOCABULARY = ["<pad>", "|", "A", "B"]
BLANK = 0


@pytest.fixture
def study(load_study: Callable[[str], ModuleType]) -> ModuleType:
    return load_study("decide_per_utterance")


def saying(letter: str, probability: float) -> np.ndarray:
    """Log-probabilities [3, 4]: blank, the letter with this probability, blank."""
    rows = np.full((3, len(VOCABULARY)), 0.001)
    rows[:, BLANK] = 0.997
    rows[1] = (1 - probability) / (len(VOCABULARY) - 1)
    rows[1, VOCABULARY.index(letter)] = probability
    return np.log(rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def text(study: ModuleType, rule: str, answers: list[np.ndarray]) -> str:
    greedy = GreedyDecoder(VOCABULARY)
    return study.RULES[rule](answers, study.Decoders(greedy, greedy), BLANK).text


def test_certainty_is_one_over_the_number_of_equally_likely_symbols(study: ModuleType) -> None:
    assert study.certainty(saying("A", 0.9999999), BLANK) == pytest.approx(1, abs=1e-3)
    assert study.certainty(saying("A", 0.2500001), BLANK) == pytest.approx(0.25, abs=1e-3)
    assert study.certainty(saying("A", 0.9)[:1], BLANK) == 1.0  # nothing is said


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("before adaptation", "A"),
        ("after 1 step", "B"),
        ("after 2 steps", "A"),
        ("mean of logarithms, 1 step", "B"),
        ("mean of probabilities, 1 step", "B"),
        ("share by certainty, 1 step", "B"),
        ("before if its certainty is 0.8 or more, else the mean, 1 step", "B"),
        ("best score of 0, 1 and 2 steps", "B"),
        ("best score of the means after 1 and 2 steps", "A"),
    ],
)
def test_what_a_rule_says(study: ModuleType, rule: str, expected: str) -> None:
    assert text(study, rule, [saying("A", 0.6), saying("B", 0.99), saying("A", 0.7)]) == expected


def test_an_answer_that_is_certain_stays(study: ModuleType) -> None:
    answers = [saying("A", 0.98), saying("B", 0.9999), saying("B", 0.9999)]
    assert text(study, "before if its certainty is 0.8 or more, else the mean, 1 step", answers) == "A"
    assert text(study, "mean of logarithms, 1 step", answers) == "B"
