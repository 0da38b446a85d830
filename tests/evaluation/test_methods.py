"""The names of methods."""

import pytest

from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.methods import Method, parse_methods


def test_a_method_may_say_its_steps_and_parameters() -> None:
    assert parse_methods("none, tent,suta:5,suta_mean:5,ttt,ttt:1,ttt_front_end:2") == [
        Method("none", "none"),
        Method("tent", "tent"),
        Method("suta:5", "suta", 5),
        Method("suta_mean:5", "suta_mean", 5),
        Method("ttt", "ttt"),
        Method("ttt:1", "ttt", 1),
        Method("ttt_front_end:2", "ttt", 2, "front_end"),
    ]


def test_what_is_carried_over_is_a_stream() -> None:
    methods = parse_methods("none,suta,ttt_both,continual,continual_front_end:1", steps="2")
    assert methods[3:] == [
        Method("continual:2", "continual", 2),
        Method("continual_front_end:1", "continual", 1, "front_end"),
    ]
    assert [method.is_stream for method in methods] == [False, False, False, True, True]


def test_steps_multiply_the_methods_that_have_none() -> None:
    names = [method.name for method in parse_methods("none,suta,ttt:2,ttt_both", steps="1,2")]
    assert names == ["none", "suta:1", "suta:2", "ttt:2", "ttt_both:1", "ttt_both:2"]


def test_a_method_is_there_once() -> None:
    assert [method.name for method in parse_methods("suta:2,none,suta,none", steps="1,2")] == [
        "suta:2",
        "none",
        "suta:1",
    ]


@pytest.mark.parametrize(
    ("methods", "steps", "message"),
    [
        ("magic", None, "method 'magic': unknown; choose from none, tent"),
        ("suta_front_end", None, "method 'suta_front_end': unknown"),
        ("ttt_", None, "unknown"),
        ("ttt_everything", None, "method 'ttt_everything': unknown; choose from none, tent"),
        ("continual_back_end:2", None, "unknown"),
        ("", None, "unknown"),
        ("none:1", None, "takes no steps"),
        ("suta:0", None, "'0' is not a number of steps"),
        ("suta:", None, "'' is not a number of steps"),
        ("suta", "1,two", "--steps 1,two: 'two' is not a number of steps"),
    ],
)
def test_mistakes_are_named(methods: str, steps: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_methods(methods, steps)
