"""Error counts against a direct dynamic program; bootstrap intervals against theory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.metrics import (
    ErrorCounts,
    area_under_roc,
    bootstrap_interval,
    character_errors,
    correct_words,
    paired_bootstrap_interval,
    word_errors,
)

sentences = st.lists(st.sampled_from(["A", "BE", "CAB"]), max_size=7).map(" ".join)
error_counts = st.builds(ErrorCounts, *[st.integers(0, 9)] * 4)


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein distance, straight from its recurrence."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, found in enumerate(hypothesis, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != found))
    return row[-1]


@given(sentences, sentences)
def test_counts_are_a_minimal_edit(reference: str, hypothesis: str) -> None:
    for count, tokens in ((word_errors, str.split), (character_errors, list)):
        counts = count(reference, hypothesis)
        expected, found = tokens(reference), tokens(hypothesis)
        assert counts.errors == edit_distance(expected, found)
        assert counts.reference_length == len(expected)
        assert counts.insertions - counts.deletions == len(found) - len(expected)


def test_each_kind_of_error() -> None:
    assert word_errors("A B C", "A X C") == ErrorCounts(1, 0, 0, 3)
    assert word_errors("A B C", "A C") == ErrorCounts(0, 1, 0, 3)
    assert word_errors("A B C", "A B B C") == ErrorCounts(0, 0, 1, 3)
    assert character_errors("AB C", "ABC") == ErrorCounts(0, 1, 0, 4)


def test_extra_whitespace_is_no_error() -> None:
    assert word_errors(" A  B ", "A B").errors == 0
    assert character_errors(" A  B ", "A B") == ErrorCounts(0, 0, 0, 3)


def test_empty_texts_have_finite_rates() -> None:
    assert word_errors("", "").rate == 0.0
    assert word_errors("", "A B").rate == 2.0
    assert word_errors("A B", "").rate == 1.0


def test_a_corpus_pools_counts_and_does_not_average_rates() -> None:
    total = sum([word_errors("A", "B"), word_errors("A B C", "A B C")], start=ErrorCounts())
    assert total.rate == 0.25


@given(st.lists(error_counts, min_size=1, max_size=8), st.integers(0, 3))
def test_interval_lies_within_the_utterances_extremes(counts: list[ErrorCounts], seed: int) -> None:
    counts = [count + ErrorCounts(reference_length=1) for count in counts]
    low, high = bootstrap_interval(counts, seed=seed)
    rates = [count.rate for count in counts]
    assert min(rates) - 1e-12 <= low <= high <= max(rates) + 1e-12
    assert (low, high) == bootstrap_interval(counts, seed=seed)


def test_interval_has_the_width_of_a_binomial() -> None:
    counts = [ErrorCounts(substitutions=int(number < 120), reference_length=1) for number in range(400)]
    low, high = bootstrap_interval(counts)
    standard_error = (0.3 * 0.7 / 400) ** 0.5
    assert low == pytest.approx(0.3 - 1.96 * standard_error, abs=0.01)
    assert high == pytest.approx(0.3 + 1.96 * standard_error, abs=0.01)


def test_pairing_finds_a_small_but_consistent_difference() -> None:
    hard_and_easy = [ErrorCounts(substitutions=9 * (number % 2), reference_length=10) for number in range(60)]
    one_worse = [count + ErrorCounts(substitutions=1) for count in hard_and_easy]
    low, high = paired_bootstrap_interval(one_worse, hard_and_easy)
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1)
    assert bootstrap_interval(one_worse)[0] < bootstrap_interval(hard_and_easy)[1]
    reverse_low, reverse_high = paired_bootstrap_interval(hard_and_easy, one_worse)
    assert (reverse_low, reverse_high) == (pytest.approx(-high), pytest.approx(-low))


def test_bootstrap_refuses_what_it_cannot_resample() -> None:
    with pytest.raises(ValueError, match="at least one utterance"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="the same utterances"):
        paired_bootstrap_interval([ErrorCounts()], [ErrorCounts()] * 2)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("A BE CAB", "A CAB", [True, True]),
        ("A BE CAB", "A CAB BE CAB", [True, False, True, True]),
        ("A BE", "BE  BE", [False, True]),
        ("A", "", []),
        ("", "A BE", [False, False]),
    ],
)
def test_words_are_correct_where_they_are_aligned_with_themselves(
    reference: str, hypothesis: str, expected: list[bool]
) -> None:
    assert correct_words(reference, hypothesis) == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_area_under_roc_is_the_share_of_pairs_in_the_right_order(items: list[tuple[int, bool]]) -> None:
    pairs = [(good, bad) for good, label in items if label for bad, other_label in items if not other_label]
    area = area_under_roc([score for score, _ in items], [label for _, label in items])
    if pairs:
        assert area == pytest.approx(sum((good > bad) + 0.5 * (good == bad) for good, bad in pairs) / len(pairs))
    else:
        assert area is None
