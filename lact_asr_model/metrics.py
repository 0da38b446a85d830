"""Word and character errors as counts that add up, and bootstrap intervals of corpus rates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jiwer
import numpy as np

CONFIDENCE = 0.95
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class ErrorCounts:
    """Edit operations that turn a reference into a hypothesis; `+` pools utterances into a corpus."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_length: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_length + other.reference_length,
        )

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference token; an empty reference counts as one token, so the rate is always finite."""
        return self.errors / max(self.reference_length, 1)


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Word edits of one utterance. Both texts are compared as they are: normalise them first."""
    return _error_counts(jiwer.process_words(_single_spaced(reference), _single_spaced(hypothesis)))


def character_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Character edits of one utterance; the single space between words is a character."""
    return _error_counts(jiwer.process_characters(_single_spaced(reference), _single_spaced(hypothesis)))


def correct_words(reference: str, hypothesis: str) -> list[bool]:
    """For each word of the hypothesis, whether it is aligned with the same word of the reference."""
    is_correct = [False] * len(hypothesis.split())
    output = jiwer.process_words(_single_spaced(reference), _single_spaced(hypothesis))
    for chunk in output.alignments[0]:
        if chunk.type == "equal":
            is_correct[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
    return is_correct


def area_under_roc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Probability that a true item scores higher than a false one (a tie counts half); None without both kinds."""
    positive = np.array([score for score, label in zip(scores, labels, strict=True) if label])
    negative = np.sort([score for score, label in zip(scores, labels, strict=True) if not label])
    if not len(positive) or not len(negative):
        return None
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


def error_report(words: Sequence[ErrorCounts], characters: Sequence[ErrorCounts], seed: int = 0) -> dict[str, Any]:
    """The error rates of a corpus, as every `results.json` of this package has them.

    Args:
        words, characters: of each utterance.
        seed: of the bootstrap over utterances.

    Returns:
        "wer", "wer_interval" (95 %), "words" (the counts), and the same of characters; None where nothing was counted.
    """
    report: dict[str, Any] = {}
    for rate, name, counts in (("wer", "words", words), ("cer", "characters", characters)):
        total = sum(counts, ErrorCounts())
        report[rate] = total.rate if counts else None
        report[f"{rate}_interval"] = bootstrap_interval(counts, seed) if counts else None
        report[name] = asdict(total)
    return report


@dataclass(frozen=True)
class ConditionErrors:
    """The errors of one method under one condition: those of every utterance, by its id."""

    by_utterance: dict[Any, ErrorCounts]

    @property
    def utterance_ids(self) -> tuple[Any, ...]:
        return tuple(self.by_utterance)

    @property
    def total(self) -> ErrorCounts:
        return sum(self.by_utterance.values(), ErrorCounts())


def mean_rate(conditions: Sequence[ConditionErrors]) -> float:
    """The mean over conditions of their corpus error rates: each condition weighs the same, however long it is."""
    return float(np.mean([condition.total.rate for condition in conditions]))


def resampled_mean_rates(conditions: Sequence[ConditionErrors], seed: int) -> np.ndarray:
    """`mean_rate` for each of `NUM_RESAMPLES` draws of utterances with replacement (Bisani and Ney 2004).

    Each condition keeps its number of utterances. Conditions with the same utterances share their draws, as an
    utterance that is hard under one is hard under another; so do two methods that are given the same seed. Hence
    the difference of their results is that of a paired bootstrap.
    """
    rng = np.random.default_rng(seed)
    multiplicities: dict[tuple[Any, ...], np.ndarray] = {}  # [resamples, utterances]
    rates = np.zeros(NUM_RESAMPLES)
    for condition in conditions:
        ids, counts = condition.utterance_ids, condition.by_utterance.values()
        if ids not in multiplicities:
            draws = (rng.integers(len(ids), size=len(ids)) for _ in range(NUM_RESAMPLES))
            multiplicities[ids] = np.stack([np.bincount(drawn, minlength=len(ids)) for drawn in draws])
        errors = multiplicities[ids] @ np.array([count.errors for count in counts])
        lengths = multiplicities[ids] @ np.array([count.reference_length for count in counts])
        rates += errors / np.maximum(lengths, 1)
    return rates / len(conditions)


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """(low, high) between which the middle 95 % of the resampled values lie; NaN = no value."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_interval(counts: Sequence[ErrorCounts], seed: int = 0) -> tuple[float, float]:
    """(low, high) of the corpus error rate: 95 % percentile bootstrap over utterances. Raises ValueError for none."""
    return interval(_resampled_rates(counts, seed))


def paired_bootstrap_interval(
    counts_a: Sequence[ErrorCounts], counts_b: Sequence[ErrorCounts], seed: int = 0
) -> tuple[float, float]:
    """(low, high) of rate_a - rate_b, where both systems are scored on the same resampled utterances.

    An interval that excludes 0 is a significant difference. Raises ValueError when the lengths differ.
    """
    if len(counts_a) != len(counts_b):
        raise ValueError("a paired bootstrap needs the same utterances for both systems")
    return interval(_resampled_rates(counts_a, seed) - _resampled_rates(counts_b, seed))


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _error_counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(
        output.substitutions,
        output.deletions,
        output.insertions,
        output.hits + output.substitutions + output.deletions,
    )


def _resampled_rates(counts: Sequence[ErrorCounts], seed: int) -> np.ndarray:
    if not counts:
        raise ValueError("a bootstrap needs at least one utterance")
    return resampled_mean_rates([ConditionErrors(dict(enumerate(counts)))], seed)
