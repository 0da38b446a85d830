"""What the tables of the studies say of a word error rate: it, and what changes from another."""

from collections.abc import Sequence

from lact_asr_model.metrics import ConditionErrors, interval, mean_rate, resampled_mean_rates

SEED = 0


def rate_cells(own: Sequence[ConditionErrors], others: Sequence[ConditionErrors]) -> list[str]:
    """The mean over the conditions in %, and its difference from the others' (paired 95 % interval over utterances),
    which is empty for the others themselves."""
    difference = 100 * (mean_rate(own) - mean_rate(others))
    low, high = interval(resampled_mean_rates(own, SEED) - resampled_mean_rates(others, SEED))
    change = f"{difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    return [f"{100 * mean_rate(own):.1f}", "" if own is others else change]
