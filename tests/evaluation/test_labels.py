"""Names of conditions and methods in words."""

import pytest

from lact_asr_model.data.conditions import PROTOCOL
from lact_asr_model.evaluation.labels import condition_label, method_label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("gaussian:0.01", "white noise, σ 0.01"),
        ("noise:5", "noise at 5 dB"),
        ("noise:5:rain", "noise at 5 dB, rain"),
        ("babble:10", "other voices at 10 dB"),
        ("room:concrete_room", "room, concrete room"),
        ("gain:-20", "gain of −20 dB"),
        ("adults", "adults"),
        *((name, name) for name in ("gaussian", "noise", "babble")),  # names of --extra_subsets
    ],
)
def test_conditions(name: str, label: str) -> None:
    assert condition_label(name) == label


def test_no_condition_of_the_protocol_shows_its_notation() -> None:
    assert not [name for name in PROTOCOL if set(":_") & set(condition_label(name))]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("none", "no adaptation"),
        ("suta:10", "SUTA, 10 steps"),
        ("suta_lm", "SUTA-LM"),
        ("ttt:1", "ours, 1 step"),
        ("ttt_front_end@lm:2", "ours (front_end, loss lm), 2 steps"),
        ("continual_both", "ours, carried on (both)"),
    ],
)
def test_methods(name: str, label: str) -> None:
    assert method_label(name) == label
