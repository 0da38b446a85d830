import math

import pytest

from lact_asr_model.decoding.confidence import Candidate, word_posteriors


def heard(words: list[str], score: float, spans: list[tuple[int, int]]) -> Candidate:
    return Candidate(words, score, spans, words)


CANDIDATES = [
    heard(["THE", "CAT", "SAT"], math.log(0.5), [(0, 4), (4, 9), (9, 14)]),
    heard(["THE", "HAT", "SAT"], math.log(0.3), [(0, 4), (4, 9), (10, 14)]),
    heard(["A", "CAT"], math.log(0.2), [(0, 3), (5, 14)]),
]


def test_a_word_is_as_probable_as_the_hypotheses_that_have_it_there() -> None:
    assert word_posteriors(CANDIDATES, 0) == pytest.approx([0.8, 0.7, 0.8])
    assert word_posteriors(CANDIDATES, 1) == pytest.approx([0.8, 0.3, 0.8])
    assert word_posteriors(CANDIDATES, 2) == pytest.approx([0.2, 0.7])


def test_only_the_differences_of_scores_count() -> None:
    shifted = [candidate._replace(score=candidate.score - 1e4) for candidate in CANDIDATES]
    assert word_posteriors(shifted, 0) == pytest.approx([0.8, 0.7, 0.8])


def test_the_same_word_at_another_time_does_not_count() -> None:
    moved = [CANDIDATES[0], heard(["SAT", "CAT"], math.log(0.5), [(0, 4), (4, 9)])]
    assert word_posteriors(moved, 0) == pytest.approx([0.5, 1.0, 0.5])


def test_a_single_or_empty_candidate() -> None:
    assert word_posteriors(CANDIDATES[:1], 0) == [1.0, 1.0, 1.0]
    assert word_posteriors([heard([], -3.0, [])], 0) == []
