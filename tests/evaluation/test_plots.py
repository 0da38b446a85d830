"""The pictures show what was measured, and without matplotlib there is one clear line."""

import sys
from pathlib import Path
from typing import Any

import pytest

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.plots import (
    draw_noise_levels,
    draw_plots,
    draw_relative_changes,
    draw_steps,
    draw_utterances,
    load_figure_class,
    method_styles,
)
from lact_asr_model.evaluation.records import Record

METHODS = ["none", "suta:1", "suta:10", "ttt"]
STYLES = method_styles(METHODS)


def summary(condition: str, method: str, wer: float = 0.3, **more: Any) -> dict[str, Any]:
    seconds = {"compute_seconds": 0.5, "audio_seconds": 10.0}
    return {"condition": condition, "method": method, "wer": wer, "wer_interval": (0.2, 0.4), **seconds, **more}


def record(method: str, hyp: str, id: str = "a") -> Record:
    return Record(id=id, condition="clean", method=method, ref="A B", hyp=hyp, duration=1.0, seconds=0.1)


def lines_of(axes: Any) -> dict[str, list[tuple[float, float]]]:
    """The points of each labelled line."""
    return {line.get_label(): [tuple(point) for point in line.get_xydata()] for line in axes.get_lines()}


@pytest.fixture(autouse=True)
def needs_matplotlib() -> None:
    pytest.importorskip("matplotlib")


def test_a_name_has_a_colour_and_its_steps_have_markers() -> None:
    assert STYLES["suta:1"].color == STYLES["suta:10"].color
    assert len({style.color for style in STYLES.values()}) == 3
    assert STYLES["suta:1"].marker != STYLES["suta:10"].marker
    assert method_styles(["none", "ttt", "suta"])["none"] == STYLES["none"]


def test_error_rates_against_noise() -> None:
    rates = {"clean": 0.1, "gaussian:0.02": 0.4, "gaussian:0.005": 0.2, "noise:0": 0.6, "noise:10": 0.3}
    rates |= {"noise:5:rain": 0.5, "babble:5": 0.7, "gain:-20": 0.1, "gain:20": 0.1}
    rates |= {"noise": 0.9, "babble": 0.9, "gaussian": 0.9}  # names of --extra_subsets
    figure = draw_noise_levels(
        [summary(condition, "ttt", wer) for condition, wer in rates.items()], method_styles(["ttt"])
    )
    gaussian, noise = figure.axes
    assert lines_of(gaussian) == {"ours": [(0.005, pytest.approx(20)), (0.02, pytest.approx(40))]}
    assert lines_of(noise) == {"ours": [(0, pytest.approx(60)), (10, pytest.approx(30))]}
    assert not gaussian.xaxis_inverted()
    assert noise.xaxis_inverted()  # louder to the right
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert low == 0
        assert high > 60
    assert draw_noise_levels([summary("clean", "ttt"), summary("noise:5", "ttt")], STYLES) is None


def test_error_rates_against_steps() -> None:
    wer = dict(zip(METHODS, (0.5, 0.4, 0.2, 0.3), strict=True))
    summaries = [
        summary(condition, method, wer[method])
        for condition in ("clean", "room", "mean of shifted")
        for method in METHODS
    ]
    figure = draw_steps(summaries, STYLES)
    assert [axes.get_title() for axes in figure.axes] == ["clean", "mean of shifted"]
    for axes in figure.axes:
        assert lines_of(axes) == {"SUTA": [(0, 50), (1, pytest.approx(40)), (10, pytest.approx(20))]}
        assert axes.get_lines()[0].get_color() == STYLES["suta:1"].color
    assert len(draw_steps([each for each in summaries if each["condition"] == "room"], STYLES).axes) == 1
    assert draw_steps(summaries, method_styles(["none", "suta:1", "ttt"])) is None


def test_relative_changes_are_of_those_that_have_one() -> None:
    change = {"wer_relative_change": -0.2, "wer_relative_change_interval": (-0.3, 0.1)}
    summaries = [summary("clean", "none"), summary("clean", "ttt"), summary("room", "ttt", **change)]
    (axes,) = draw_relative_changes(summaries, STYLES).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a room"]
    (container,) = axes.containers
    ((low, high),) = [segment[:, 0] for segment in container.lines[2][0].get_segments()]
    assert (low, high) == (pytest.approx(-30), pytest.approx(10))
    assert draw_relative_changes(summaries[:2], STYLES) is None


def test_points_are_recognitions_without_and_with_adaptation() -> None:
    answers = {"a": ("A X", "A B"), "b": ("A B", "X"), "c": ("X B", "A B")}
    records = [record("none", before, id) for id, (before, _) in answers.items()]
    records += [record("ttt", after, id) for id, (_, after) in answers.items()]
    (axes,) = draw_utterances(records, method_styles(["none", "ttt"])).axes
    (points,) = axes.collections
    assert points.get_offsets().tolist() == [[50, 0], [0, 100]]
    twice, once = points.get_sizes()
    assert twice == 2 * once
    assert axes.get_title() == "ours: 2 better, 1 worse"
    assert draw_utterances(records[:3], method_styles(["none"])) is None
    assert draw_utterances(records[3:], method_styles(["ttt"])) is None


def test_those_that_the_data_allow_are_written(tmp_path: Path) -> None:
    change = {"wer_relative_change": -0.2, "wer_relative_change_interval": (-0.3, 0.1)}
    few = [summary("clean", "none")]
    paths = draw_plots(few, [], [record("none", "A")], tmp_path)
    assert [path.name for path in paths] == ["wer.png", "time.png"]
    many = [
        summary(condition, method, **({} if method == "none" else change))
        for condition in ("clean", "noise:5", "noise:0")
        for method in METHODS
    ]
    shifted = [summary("mean of shifted", method, **change) for method in METHODS]
    paths = draw_plots(many, shifted, [record(method, "A") for method in METHODS], tmp_path)
    names = ["wer", "relative_change", "wer_by_noise", "wer_by_steps", "scatter", "time"]
    assert paths == [tmp_path / f"{name}.png" for name in names]
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert int.from_bytes(content[16:20], "big") <= 1000  # dots wide


def test_without_matplotlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r'pip install "lact-asr\[plots\]"'):
        load_figure_class()
