"""From single recognitions to error rates with intervals, and to tables.

The word error rate of a condition is that of all its words together. The mean over conditions gives each condition the
same weight: it is the mean of their rates, whether or not they have the same utterances. Its relative change is that
of the mean, not the mean of the conditions' changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lact_asr_model.evaluation.records import Record
from lact_asr_model.metrics import (
    ConditionErrors,
    ErrorCounts,
    character_errors,
    interval,
    mean_rate,
    resampled_mean_rates,
    word_errors,
)

BASELINE = "none"
CLEAN = "clean"
SHIFTED = "mean of shifted"
_LEGEND = "* differs from {}: the paired 95 % bootstrap interval of the difference excludes 0."


def summarize(
    records: Sequence[Record], baseline: Sequence[Record] | None, seed: int = 0, condition: str | None = None
) -> dict[str, Any]:
    """Counts, rates and speed of one method; under several conditions the rates are means over them.

    Args:
        records: of every utterance, under one condition or under several.
        baseline: the same recognitions by the method to compare with, for the differences, with intervals paired over
            utterances, and the ratio of the costs; None = no differences.
        seed: of the bootstrap over utterances; see `resampled_mean_rates`.
        condition: what several conditions together are called; None = there is one, that of the records.
    """
    words, characters = _errors(records, word_errors), _errors(records, character_errors)
    audio_seconds = sum(record.duration for record in records)
    compute_seconds = sum(record.seconds for record in records)
    summary: dict[str, Any] = {
        "condition": condition or records[0].condition,
        "method": records[0].method,
        "num_utterances": len({utterance_id for part in words for utterance_id in part.utterance_ids}),
        "num_recognitions": len(records),
        **_rates("wer", words, None if baseline is None else _errors(baseline, word_errors), seed),
        "words": asdict(sum((part.total for part in words), ErrorCounts())),
        **_rates("cer", characters, None if baseline is None else _errors(baseline, character_errors), seed),
        "characters": asdict(sum((part.total for part in characters), ErrorCounts())),
        "num_blank": sum(is_blank(record) for record in records),
        "num_single_character": sum(is_single_character(record) for record in records),
        "audio_seconds": audio_seconds,
        "compute_seconds": compute_seconds,
        "rtfx": audio_seconds / compute_seconds,
    }
    if all(record.adapted is not None for record in records):
        summary["num_adapted"] = sum(record.adapted is True for record in records)
        summary["adapted_share"] = summary["num_adapted"] / len(records)
    if baseline is not None:
        summary["baseline"] = baseline[0].method
        summary["time_ratio"] = compute_seconds / sum(record.seconds for record in baseline)
    return summary


def _rates(
    name: str, errors: Sequence[ConditionErrors], baseline: Sequence[ConditionErrors] | None, seed: int
) -> dict[str, Any]:
    """The error rate called `name` and what it differs by from the baseline's, each with its interval."""
    rate, resampled = mean_rate(errors), resampled_mean_rates(errors, seed)
    rates: dict[str, Any] = {name: rate, f"{name}_interval": interval(resampled)}
    if baseline is not None:
        baseline_rate, resampled_baseline = mean_rate(baseline), resampled_mean_rates(baseline, seed)
        rates[f"{name}_difference"] = rate - baseline_rate
        rates[f"{name}_difference_interval"] = interval(resampled - resampled_baseline)
        if baseline_rate > 0:
            changes = np.full_like(resampled, np.nan)
            np.divide(resampled, resampled_baseline, out=changes, where=resampled_baseline > 0)
            rates[f"{name}_relative_change"] = rate / baseline_rate - 1
            rates[f"{name}_relative_change_interval"] = interval(changes - 1)
    return rates


def is_blank(record: Record) -> bool:
    """Whether speech was recognised as nothing: a collapse of adaptation."""
    return bool(record.ref) and not record.hyp


def is_single_character(record: Record) -> bool:
    """Whether speech was recognised as one character, once or many times: a collapse of adaptation."""
    return record.hyp != record.ref and len(set(record.hyp) - {" "}) == 1


def is_significant(summary: dict[str, Any], rate: str = "wer") -> bool:
    """Whether an error rate differs from the baseline's: the interval of the difference excludes 0."""
    low, high = summary.get(f"{rate}_difference_interval", (0.0, 0.0))
    return low > 0 or high < 0


def format_table(summaries: Sequence[dict[str, Any]]) -> str:
    """A row for each summary; the share of adapted utterances is shown where a method leaves some as they are."""
    leaves_some = any(summary["method"] != BASELINE and summary.get("adapted_share", 1) < 1 for summary in summaries)
    columns = {name: cell for name, cell in _COLUMNS.items() if name != _ADAPTED or leaves_some}
    baseline = _baseline_of(summaries)
    header = [name.format(baseline=baseline) for name in columns]
    return markdown_table([header, *([cell(summary) for cell in columns.values()] for summary in summaries)])


def format_compact_table(
    summaries: Sequence[dict[str, Any]], shifted: Sequence[dict[str, Any]], rate: str = "wer"
) -> str:
    """A row for each condition with the error rate of every method, and what each costs; a legend follows.

    Args:
        summaries: of each condition and method; see `summarize`.
        shifted: of each method over the shifted conditions; may be empty.
        rate: "wer" or "cer".
    """
    methods = list(dict.fromkeys(summary["method"] for summary in summaries))
    rates: dict[str, dict[str, str]] = {}
    for summary in [*summaries, *shifted]:
        mark = "*" if is_significant(summary, rate) else ""
        rates.setdefault(summary["condition"], {})[summary["method"]] = f"{100 * summary[rate]:.1f}{mark}"
    rows = [("condition", *methods), *((name, *(row[method] for method in methods)) for name, row in rates.items())]
    baseline = _baseline_of(summaries)
    if baseline in methods:
        seconds = dict.fromkeys(methods, 0.0)
        for summary in summaries:
            seconds[summary["method"]] += summary["compute_seconds"]
        rows.append((f"time / {baseline}", *(f"{seconds[method] / seconds[baseline]:.1f}" for method in methods)))
    return f"{markdown_table(rows)}\n\n{rate.upper()} in %. {_LEGEND.format(baseline)}"


def _baseline_of(summaries: Sequence[dict[str, Any]]) -> str:
    """What the summaries were compared with."""
    return next((summary["baseline"] for summary in summaries if "baseline" in summary), BASELINE)


def _errors(records: Sequence[Record], count: Callable[[str, str], ErrorCounts]) -> list[ConditionErrors]:
    """The errors under each condition."""
    conditions: dict[str, dict[str, ErrorCounts]] = {}
    for record in records:
        conditions.setdefault(record.condition, {})[record.id] = count(record.ref, record.hyp)
    return [ConditionErrors(by_utterance) for by_utterance in conditions.values()]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _edits(summary: dict[str, Any]) -> str:
    words = summary["words"]
    return f"{words['substitutions']} / {words['deletions']} / {words['insertions']} of {words['reference_length']}"


def percent_of(name: str, sign: str = "") -> Callable[[dict[str, Any]], str]:
    """How to write a rate with its interval, in percent; nothing if the summary does not have it."""

    def cell(summary: dict[str, Any]) -> str:
        if name not in summary:
            return ""
        low, high = summary[f"{name}_interval"]
        return f"{100 * summary[name]:{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"

    return cell


_ADAPTED = "adapted %"
_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "condition": lambda summary: summary["condition"],
    "method": lambda summary: summary["method"],
    "WER % (95 %)": percent_of("wer"),
    "minus {baseline} (95 %)": percent_of("wer_difference", sign="+"),
    "relative % (95 %)": percent_of("wer_relative_change", sign="+"),
    "CER % (95 %)": percent_of("cer"),
    "CER minus {baseline}": percent_of("cer_difference", sign="+"),
    "S / D / I": _edits,
    "blank / 1 char": lambda summary: f"{summary['num_blank']} / {summary['num_single_character']}",
    _ADAPTED: lambda summary: f"{100 * summary['adapted_share']:.0f}" if "adapted_share" in summary else "",
    "time / {baseline}": lambda summary: f"{summary['time_ratio']:.1f}" if "time_ratio" in summary else "",
    "RTFx": lambda summary: f"{summary['rtfx']:.1f}",
}
