"""The options of adaptation: where they come from, and what is refused."""

import pytest
from lact_asr_model.inference.ttt_options import TTTOptions

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError


def test_they_come_from_the_config_and_can_be_overridden() -> None:
    config = HybridASRConfig(ttt_loss_type="entropy", ttt_steps=2, ttt_temperature=1.5, ttt_mask_span_frames=3)
    options = TTTOptions.from_config(config, steps=1, learning_rate=None, seed=5)
    assert options == TTTOptions(loss_type="entropy", steps=1, temperature=1.5, mask_span_frames=3, seed=5)


@pytest.mark.parametrize(
    ("name", "configured", "override"),
    [
        ("layers", "3,5-7", "all"),
        ("conv_layers", "0", "1-2"),
        ("skip_entropy", 0.75, 0.0),
        ("accept", True, False),
        ("mode", "continual", "episodic"),
        ("reset_every", 9, 0),
    ],
)
def test_a_change_wins_over_the_config_even_if_it_is_zero_or_false(name: str, configured, override) -> None:
    config = HybridASRConfig(**{f"ttt_{name}": configured})
    assert TTTOptions.from_config(config) == TTTOptions(**{name: configured})
    assert TTTOptions.from_config(config, **{name: override}) == TTTOptions(**{name: override})


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss_type": "ctc"},
        {"parameters": "everything"},
        {"mask_prob": 1.0},
        {"mask_span_frames": 0},
        {"steps": -1},
        {"steps": 1.5},
        {"steps": True},
        {"steps": "2"},
        {"learning_rate": "0.1"},
        {"skip_entropy": None},
        {"accept": 1},
        {"layers": 3},
        {"reset_every": 2.0},
        {"seed": 0.5},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"front_end_step": -1.0},
        {"layers": "first"},
        {"layers": ""},
        {"layers": "4-2"},
        {"layers": "0-1000000"},
        {"conv_layers": "0;1"},
        {"conv_layers": "-1"},
        {"temperature": 0.0},
        {"skip_entropy": -0.1},
        {"max_seconds": -1.0},
        {"skip_entropy": float("nan")},
        {"mode": "forever"},
        {"reset_every": -1},
        {"seed": -1},
    ],
)
def test_wrong_options_are_named(wrong: dict) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UserError) as caught:
        TTTOptions(**wrong)
    message = str(caught.value)
    assert message.startswith(f"TTT option {name} is {value!r}; it must be ")
    assert "\n" not in message
