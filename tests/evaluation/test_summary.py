"""Rates, differences and the table, against a hand count."""

import dataclasses

import pytest

from lact_asr_model.evaluation.records import Record
from lact_asr_model.evaluation.summary import (
    format_compact_table,
    format_table,
    is_blank,
    is_single_character,
    summarize,
)

REFERENCES = ["A B C D", "E F", "G H I J"]
PLAIN = ["A B C D", "E X", "G I J K"]  # 0, one substitution, one deletion and one insertion: 3 of 10
ADAPTED = ["A B C D", "E F", "G H I"]  # 0, 0, one deletion: 1 of 10


def records(method: str, hypotheses: list[str], condition: str = "noise:5", seconds: float = 0.5) -> list[Record]:
    return [
        Record(id=str(index), condition=condition, method=method, ref=ref, hyp=hyp, duration=2.0, seconds=seconds)
        for index, (ref, hyp) in enumerate(zip(REFERENCES, hypotheses, strict=True))
    ]


def plain_and_adapted() -> list[dict]:
    baseline = records("none", PLAIN)
    adapted = records("ttt", ADAPTED, seconds=1.5)
    return [
        summarize(baseline, None),
        summarize(adapted, baseline),
    ]


def test_counts_and_rates() -> None:
    summary, _ = plain_and_adapted()
    assert summary["words"] == {"substitutions": 1, "deletions": 1, "insertions": 1, "reference_length": 10}
    assert summary["wer"] == pytest.approx(0.3)
    low, high = summary["wer_interval"]
    assert 0 <= low < 0.3 < high <= 0.5  # no utterance is worse than 2 of 4
    assert summary["rtfx"] == pytest.approx(6.0 / 1.5)
    assert "wer_difference" not in summary


def test_the_difference_to_the_baseline_is_paired() -> None:
    _, summary = plain_and_adapted()
    assert summary["wer_difference"] == pytest.approx(-0.2)
    low, high = summary["wer_difference_interval"]
    assert low < -0.2 < high <= 0  # no utterance got worse, so no resample does
    assert summary["wer_relative_change"] == pytest.approx(1 / 3 - 1)
    low, high = summary["wer_relative_change_interval"]
    assert low == -1  # utterances without an error left
    assert -2 / 3 < high <= 0
    assert summary["time_ratio"] == pytest.approx(3.0)
    same = summarize(records("ttt", PLAIN), records("none", PLAIN))
    assert same["wer_difference_interval"] == (0, 0)
    assert same["wer_relative_change"] == 0


def test_without_errors_of_the_baseline_there_is_no_relative_change() -> None:
    summary = summarize(records("ttt", ADAPTED), records("none", REFERENCES))
    assert summary["wer_difference"] == pytest.approx(0.1)
    assert "wer_relative_change" not in summary


def test_the_rates_of_several_conditions_are_their_means() -> None:
    one = summarize(records("none", PLAIN, "room"), None)
    worse, bad = ["A B C D", "X X", ""], ["A B C D", "E X", ""]
    baseline = records("none", PLAIN, "room") + records("none", worse, "other", seconds=1.0)[:2]
    adapted = records("ttt", ADAPTED, "room") + records("ttt", bad, "other")[:2]
    plain, summary = summarize(baseline, None, condition="all"), summarize(adapted, baseline, condition="all")
    assert (one["condition"], plain["condition"]) == ("room", "all")
    assert plain["wer"] == pytest.approx((3 / 10 + 2 / 6) / 2)
    assert summary["wer"] == pytest.approx((1 / 10 + 1 / 6) / 2)
    assert summary["wer_difference"] == pytest.approx(summary["wer"] - plain["wer"])
    assert summary["wer_relative_change"] == pytest.approx(summary["wer"] / plain["wer"] - 1)
    assert plain["words"]["reference_length"] == 16
    assert plain["num_recognitions"] == 5
    assert summary["time_ratio"] == pytest.approx(2.5 / 3.5)


def test_a_copy_of_a_condition_is_no_more_evidence() -> None:
    one = summarize(records("none", PLAIN, "clean"), None)
    twice = summarize(records("none", PLAIN, "clean") + records("none", PLAIN, "room"), None, condition="all")
    assert twice["num_utterances"] == one["num_utterances"] == 3
    assert twice["wer"] == one["wer"]
    assert twice["wer_interval"] == one["wer_interval"]
    assert twice["words"]["reference_length"] == 20


def test_resamples_without_errors_of_the_baseline_have_no_relative_change() -> None:
    baseline = records("none", ["A B C D", "E X", "G H I J"])  # one error of one utterance
    summary = summarize(records("ttt", ["A B C X", "E X", "G H I J"]), baseline)
    low, high = summary["wer_relative_change_interval"]
    assert low == 0  # no resample with errors of the baseline has fewer of the method
    assert high == pytest.approx(2)  # the first utterance twice, the second once: 3 errors for 1


def test_collapses_are_counted() -> None:
    (record,) = records("ttt", ADAPTED)[1:2]

    def with_hypothesis(hyp: str, ref: str = "E F") -> Record:
        return dataclasses.replace(record, hyp=hyp, ref=ref)

    assert is_blank(with_hypothesis(""))
    assert not is_blank(with_hypothesis("", ref=""))
    assert all(is_single_character(with_hypothesis(hyp)) for hyp in ("E", "EEEE", "E E"))
    assert not any(is_single_character(with_hypothesis(hyp)) for hyp in ("", "EF", "E F"))
    assert not is_single_character(with_hypothesis("I", ref="I"))
    summary = summarize(records("ttt", ["", "E", "G G"]), None)
    assert (summary["num_blank"], summary["num_single_character"]) == (1, 2)


def test_adapted_utterances_are_counted_where_every_record_knows() -> None:
    first, second, third = records("ttt", ADAPTED)
    known = [dataclasses.replace(first, adapted=True), dataclasses.replace(second, adapted=False)]
    summary = summarize(known, None)
    assert (summary["num_adapted"], summary["adapted_share"]) == (1, 0.5)
    assert "num_adapted" not in summarize([*known, third], None)


def test_the_share_of_adapted_utterances_is_shown_where_a_method_leaves_some() -> None:
    def table(adapted: list[bool]) -> list[str]:
        baseline = [dataclasses.replace(record, adapted=False) for record in records("none", PLAIN)]
        of_method = zip(records("ttt", ADAPTED), adapted, strict=True)
        method = [dataclasses.replace(record, adapted=is_adapted) for record, is_adapted in of_method]
        return format_table([summarize(baseline, None), summarize(method, baseline)]).splitlines()

    assert "adapted %" not in table([True, True, True])[0]
    header, _, first, second = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table([True, False, True])
    )
    column = header.index("adapted %")
    assert (first[column], second[column]) == ("0", "67")


def test_the_compact_table_has_a_row_for_each_condition_and_marks_differences() -> None:
    many, half = [str(index) for index in range(20)], ["x"] * 10 + [str(index) for index in range(10, 20)]
    summaries = []
    for condition, hypotheses in (("clean", many), ("room", half)):
        plain, adapted = (
            [
                Record(str(index), condition, method, str(index), hyp, duration=1.0, seconds=seconds)
                for index, hyp in enumerate(answers)
            ]
            for method, answers, seconds in (("none", half, 0.5), ("ttt:1", hypotheses, 1.0))
        )
        summaries += [summarize(plain, None), summarize(adapted, plain)]
    mean = [summarize([record], None, condition="mean of shifted") for record in (plain[0], adapted[-1])]
    lines = format_compact_table(summaries, mean).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:6] if "---" not in line] == [
        ["condition", "none", "ttt:1"],
        ["clean", "50.0", "0.0*"],
        ["room", "50.0", "50.0"],
        ["mean of shifted", "100.0", "0.0"],
        ["time / none", "1.0", "2.0"],
    ]
    assert lines[6] == ""
    assert lines[7].startswith("WER in %. * differs from none")
    without_baseline = format_compact_table(summaries[1::2], [])
    assert "time / none" not in without_baseline
    assert "mean of shifted" not in without_baseline


def test_the_table_is_markdown_with_a_row_for_each_summary() -> None:
    header, rule, first, second = format_table(plain_and_adapted()).splitlines()
    assert len({len(line) for line in (header, rule, first, second)}) == 1
    assert set(rule) == {"|", "-"}
    cells = [cell.strip() for cell in second.strip("|").split("|")]
    assert cells[:2] == ["noise:5", "ttt"]
    assert cells[2].startswith("10.0 (")
    assert cells[3].startswith("-20.0 (")
    assert cells[4].startswith("-66.7 (")
    assert cells[7:] == ["0 / 1 / 0 of 10", "0 / 0", "3.0", "1.3"]
    assert [cell.strip() for cell in first.strip("|").split("|")][3:5] == ["", ""]
