"""Pictures of a comparison. A method looks the same in all of them: a colour for its name, a marker for its steps."""

import importlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.labels import condition_label, method_label
from lact_asr_model.evaluation.records import Record
from lact_asr_model.evaluation.summary import BASELINE, CLEAN, SHIFTED
from lact_asr_model.metrics import word_errors

_BASELINE_COLOR = "#555555"
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F3C8D")
_MARKERS = "osD^vP*X"
_LEVEL_LABELS = {
    "gaussian": "standard deviation of Gaussian noise",
    "noise": "signal-to-noise ratio, dB",
    "babble": "signal-to-babble ratio, dB",
}
_POINT_AREA = 8.0
_WIDTH_INCHES, _DOTS_PER_INCH = 8.0, 120  # a picture is read on a page: at most 1000 dots wide
_PANELS_IN_A_ROW = 2
_RATE_LABEL = "word error rate, %"

Summary = dict[str, Any]
Styles = dict[str, "Style"]


def load_figure_class() -> Any:
    """Matplotlib's figure, which needs no display. Raises UserError where the extra is missing."""
    try:
        return importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        raise UserError('plots: matplotlib is not installed; run: pip install "lact-asr[plots]"') from None


@dataclass(frozen=True)
class Style:
    """How a method looks."""

    color: str
    marker: str


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """A colour for each name without steps, and a marker for each number of steps of it."""
    colors = itertools.cycle(_COLORS)
    color_of = {BASELINE: _BASELINE_COLOR}
    markers_of: dict[str, Iterator[str]] = {}
    styles = {}
    for method in methods:
        name = _name(method)
        color = color_of[name] if name in color_of else color_of.setdefault(name, next(colors))
        styles[method] = Style(color, next(markers_of.setdefault(name, itertools.cycle(_MARKERS))))
    return styles


def draw_plots(
    summaries: Sequence[Summary], shifted: Sequence[Summary], records: Sequence[Record], folder: Path
) -> list[Path]:
    """Write those of these that the data allow, and return their paths.

    wer.png: error rate of each condition and method. relative_change.png: what adaptation changed. wer_by_noise.png:
    error rate against the level of each noise of which there are several. wer_by_steps.png: error rate against the
    steps of each method that has several numbers of them. scatter.png: each utterance without and with adaptation.
    time.png: what each method costs.

    Args:
        summaries: of each condition and method; see `summarize`.
        shifted: of each method over the shifted conditions; may be empty.
        records: all recognitions.
        folder: where the files go.

    Raises:
        UserError: matplotlib is missing.
    """
    styles = method_styles(list(dict.fromkeys(summary["method"] for summary in summaries)))
    figures = {
        "wer": draw_error_rates(summaries, styles),
        "relative_change": draw_relative_changes([*summaries, *shifted], styles),
        "wer_by_noise": draw_noise_levels(summaries, styles),
        "wer_by_steps": draw_steps([*summaries, *shifted], styles),
        "scatter": draw_utterances(records, styles),
        "time": draw_times(summaries, styles),
    }
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=_DOTS_PER_INCH)
    return paths


def draw_error_rates(summaries: Sequence[Summary], styles: Styles) -> Any:
    """A point with its 95 % interval for each condition and method."""
    figure, axes = _draw_by_condition(summaries, "wer", styles)
    axes.set_xlabel(f"{_RATE_LABEL} (95 % interval)")
    axes.set_xlim(left=0)
    return figure


def draw_relative_changes(summaries: Sequence[Summary], styles: Styles) -> Any:
    """The relative change of the error rate with its interval; None where nothing is compared with the baseline."""
    changes = [summary for summary in summaries if "wer_relative_change" in summary]
    if not changes:
        return None
    figure, axes = _draw_by_condition(changes, "wer_relative_change", styles)
    axes.axvline(0, color=_BASELINE_COLOR, linewidth=1)
    axes.set_xlabel("relative change of the word error rate, % (95 % interval); left of 0 is better")
    return figure


def draw_noise_levels(summaries: Sequence[Summary], styles: Styles) -> Any:
    """A panel for each noise that has two levels or more: error rate against level, ever louder to the right.

    None where there is no such noise.
    """
    noises: dict[tuple[str, str], dict[str, float]] = {}
    for condition in _conditions(summaries):
        kind, _, value = condition.partition(":")
        if kind in _LEVEL_LABELS and value:  # without one, it is a name of --extra_subsets
            level, _, folder = value.partition(":")
            noises.setdefault((kind, folder), {})[condition] = float(level)
    noises = {noise: levels for noise, levels in noises.items() if len(levels) > 1}
    if not noises:
        return None
    figure, panels = _panels(len(noises))
    for axes, ((kind, folder), levels) in zip(panels, noises.items(), strict=True):
        for method, style in styles.items():
            rates = [
                (levels[each["condition"]], 100 * each["wer"])
                for each in summaries
                if each["method"] == method and each["condition"] in levels
            ]
            _plot_line(axes, rates, label=method_label(method), color=style.color, marker=style.marker)
        axes.set_xlabel(_LEVEL_LABELS[kind] + (f" ({folder})" if folder else ""))
        axes.set_xticks(list(levels.values()), [f"{level:g}" for level in levels.values()])
        if kind != "gaussian":
            axes.invert_xaxis()
    return _labelled(figure, panels)


def draw_steps(summaries: Sequence[Summary], styles: Styles) -> Any:
    """Error rate, clean and shifted, against the steps of each method that has two numbers of them or more.

    The baseline is at 0 steps. None where there is no such method.
    """
    families: dict[str, dict[str, int]] = {}
    for method in styles:
        if method != _name(method):
            families.setdefault(_name(method), {})[method] = int(method.rpartition(":")[2])
    families = {name: steps for name, steps in families.items() if len(steps) > 1}
    if not families:
        return None
    conditions = _conditions(summaries)
    if SHIFTED in conditions:
        conditions = [name for name in conditions if name in (CLEAN, SHIFTED)]
    figure, panels = _panels(len(conditions))
    for axes, condition in zip(panels, conditions, strict=True):
        rates = {each["method"]: 100 * each["wer"] for each in summaries if each["condition"] == condition}
        at_zero = [(0, rates[BASELINE])] if BASELINE in rates else []
        for name, steps in families.items():
            points = at_zero + [(number, rates[method]) for method, number in steps.items()]
            _plot_line(axes, points, label=method_label(name), color=styles[next(iter(steps))].color, marker="o")
        axes.set_title(condition_label(condition))
        axes.set_xlabel("steps")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return _labelled(figure, panels)


def draw_utterances(records: Sequence[Record], styles: Styles) -> Any:
    """A panel for each method: how many recognitions, by area, have which error rate without and with adaptation.

    None where there is nothing to compare.
    """
    rates: dict[str, dict[tuple[str, str], float]] = {method: {} for method in styles}
    for record in records:
        rates[record.method][record.condition, record.id] = 100 * word_errors(record.ref, record.hyp).rate
    before = rates.pop(BASELINE, {})
    if not before or not rates:
        return None
    limit = max(rate for of_method in (before, *rates.values()) for rate in of_method.values())
    figure, panels = _panels(len(rates))
    for axes, (method, after) in zip(panels, rates.items(), strict=True):
        axes.axline((0, 0), slope=1, color=_BASELINE_COLOR, linewidth=1)
        counts = Counter((before[key], rate) for key, rate in after.items())
        axes.scatter(
            *zip(*counts, strict=True),
            s=[_POINT_AREA * count for count in counts.values()],
            alpha=0.5,
            linewidths=0,
            color=styles[method].color,
        )
        num_better = sum(rate < before[key] for key, rate in after.items())
        num_worse = sum(rate > before[key] for key, rate in after.items())
        axes.set_title(f"{method_label(method)}: {num_better} better, {num_worse} worse", fontsize="medium")
        axes.set_xlabel(f"{_RATE_LABEL}, not adapted")
        axes.set(xlim=(-0.05 * limit, 1.05 * limit), ylim=(-0.05 * limit, 1.05 * limit), aspect="equal")
    panels[0].set_ylabel(f"{_RATE_LABEL}, adapted")
    return figure


def draw_times(summaries: Sequence[Summary], styles: Styles) -> Any:
    """A bar for each method: compute time per second of audio, over all conditions."""
    times = []
    for method in styles:
        of_method = [summary for summary in summaries if summary["method"] == method]
        compute_seconds = sum(summary["compute_seconds"] for summary in of_method)
        times.append(compute_seconds / sum(summary["audio_seconds"] for summary in of_method))
    figure = load_figure_class()(figsize=(_WIDTH_INCHES, 1 + 0.4 * len(styles)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(map(method_label, styles)), times, color=[style.color for style in styles.values()])
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("compute time per second of audio, s")
    axes.margins(x=0.15)
    return figure


def _draw_by_condition(summaries: Sequence[Summary], name: str, styles: Styles) -> tuple[Any, Any]:
    """A rate with its interval, in percent: a row for each condition, in it a point for each method that has it."""
    conditions = _conditions(summaries)
    methods = [method for method in styles if any(summary["method"] == method for summary in summaries)]
    height = 1.5 + (0.15 + 0.1 * len(methods)) * len(conditions)
    figure = load_figure_class()(figsize=(_WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots()
    for index, method in enumerate(methods):
        shift = 0.6 * (index - (len(methods) - 1) / 2) / len(methods)  # below each other, not on top of each other
        of_method = [summary for summary in summaries if summary["method"] == method]
        positions = [conditions.index(summary["condition"]) + shift for summary in of_method]
        rates = [100 * summary[name] for summary in of_method]
        ends = [[100 * end for end in summary[f"{name}_interval"]] for summary in of_method]
        below = [max(0.0, rate - low) for rate, (low, _) in zip(rates, ends, strict=True)]
        above = [max(0.0, high - rate) for rate, (_, high) in zip(rates, ends, strict=True)]
        style = styles[method]
        axes.errorbar(
            rates,
            positions,
            xerr=[below, above],
            fmt=style.marker,
            markersize=4,
            color=style.color,
            capsize=2,
            label=method_label(method),
        )
    axes.set_yticks(range(len(conditions)), list(map(condition_label, conditions)))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper left", ncols=2)
    return figure, axes


def _panels(number: int) -> tuple[Any, list[Any]]:
    """A figure with as many axes, a few in a row, with a common scale of error rates."""
    num_columns = min(number, _PANELS_IN_A_ROW)
    num_rows = -(-number // num_columns)
    figure = load_figure_class()(figsize=(_WIDTH_INCHES, 0.5 + 3.5 * num_rows), layout="constrained")
    panels = list(figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).flat)
    for unused in panels[number:]:
        unused.remove()
    return figure, panels[:number]


def _plot_line(axes: Any, points: Sequence[tuple[float, float]], **style: str) -> None:
    axes.plot(*zip(*sorted(points), strict=True), **style)


def _labelled(figure: Any, panels: Sequence[Any]) -> Any:
    """With the label of the common axis, and the legend that all panels share."""
    panels[0].set_ylim(bottom=0)
    for axes in panels[::_PANELS_IN_A_ROW]:
        axes.set_ylabel(_RATE_LABEL)
    for axes in panels:
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def _conditions(summaries: Sequence[Summary]) -> list[str]:
    return list(dict.fromkeys(summary["condition"] for summary in summaries))


def _name(method: str) -> str:
    """Without the steps."""
    return method.partition(":")[0]
