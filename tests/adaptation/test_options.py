"""The options of adaptation: declared once, seen by configuration and command line, and what is refused."""

import argparse
import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.adaptation.options import AdaptationOptions, model_options, options_from_config, parse_layers
from lact_asr_model.commands.options import add_ttt_options, given_ttt_options
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError

NO_LAYERS = ("", " ", ",", "3,", "first", "-1", "3-", "3-1", "1.5", "0-2-4", "ALL")
OTHER_VALUES: dict[str, Any] = {
    "loss_type": "entropy", "steps": 2, "steps_with_lm": 3, "mask_prob": 0.25, "mask_span_frames": 3,
    "learning_rate": 0.03, "front_end_step": 0.04, "parameters": "both", "layers": "1", "conv_layers": "0-2,6",
    "exit_layer": 1, "max_seconds": 5.5, "temperature": 1.5, "skip_entropy": 0.5, "unadapted_share": 0.25,
    "speed": "fast", "mode": "continual", "reset_every": 3, "stream_decay": 0.1,
}  # fmt: skip


def test_every_option_has_another_value_in_these_tests() -> None:
    assert set(OTHER_VALUES) == {option.name for option in fields(AdaptationOptions)} - {"seed"}
    defaults = AdaptationOptions()
    assert all(getattr(defaults, name) != value for name, value in OTHER_VALUES.items())


class TestDeclaredOnce:
    def test_the_configuration_has_every_option_but_the_seed_with_its_default(self) -> None:
        own_fields = HybridASRConfig.own_fields()
        config = HybridASRConfig()
        for option in fields(AdaptationOptions):
            if option.name == "seed":
                assert "ttt_seed" not in own_fields
                continue
            assert own_fields[f"ttt_{option.name}"] == getattr(config, f"ttt_{option.name}") == option.default
        of_adaptation = {name for name in own_fields if name.startswith("ttt_")}
        assert of_adaptation == {f"ttt_{option.name}" for option in model_options()}

    @pytest.mark.parametrize("name", OTHER_VALUES)
    def test_a_configuration_keeps_every_option_in_its_file(self, tmp_path: Path, name: str) -> None:
        value = OTHER_VALUES[name]
        config = HybridASRConfig(**{f"ttt_{name}": value}, intermediate_ctc_layers=[1])
        config.save_pretrained(tmp_path)
        for loaded in (HybridASRConfig.from_pretrained(tmp_path), HybridASRConfig.from_file(tmp_path / "config.json")):
            assert options_from_config(loaded) == AdaptationOptions(**{name: value})

    def test_the_command_line_has_a_flag_of_the_same_name_and_type(self) -> None:
        parser = argparse.ArgumentParser()
        add_ttt_options(parser)
        assert given_ttt_options(parser.parse_args([])) == {}
        for name, value in OTHER_VALUES.items():
            given = given_ttt_options(parser.parse_args([f"--ttt_{name}", str(value)]))
            assert given == {name: value}
            assert type(given[name]) is type(getattr(AdaptationOptions(), name))
        with pytest.raises(SystemExit):
            parser.parse_args(["--ttt_seed", "1"])  # --seed is that of everything random

    def test_every_flag_is_explained(self) -> None:
        parser = argparse.ArgumentParser()
        add_ttt_options(parser)
        text = " ".join(parser.format_help().split())
        for option in model_options():
            assert f"--ttt_{option.name} {option.metadata['metavar']}" in text
            assert len(option.metadata["help"]) > 10
            assert " ".join(option.metadata["help"].split()) in text


def test_they_come_from_the_config_and_can_be_overridden() -> None:
    config = HybridASRConfig(ttt_loss_type="entropy", ttt_steps=2, ttt_temperature=1.5, ttt_mask_span_frames=3)
    options = options_from_config(config, steps=1, learning_rate=None, seed=5)
    assert options == AdaptationOptions(loss_type="entropy", steps=1, temperature=1.5, mask_span_frames=3, seed=5)


def test_a_config_without_them_gives_the_defaults() -> None:
    assert options_from_config(SimpleNamespace()) == AdaptationOptions()
    assert options_from_config(SimpleNamespace(ttt_steps=7)) == AdaptationOptions(steps=7)


@pytest.mark.parametrize(
    ("name", "configured", "override"),
    [
        ("layers", "3,5-7", "all"),
        ("conv_layers", "0", "1-2"),
        ("skip_entropy", 0.75, 0.0),
        ("unadapted_share", 0.5, 0.0),
        ("mode", "continual", "episodic"),
        ("reset_every", 9, 0),
    ],
)
def test_a_change_wins_over_the_config_even_if_it_is_zero(name: str, configured: Any, override: Any) -> None:
    config = HybridASRConfig(**{f"ttt_{name}": configured})
    assert options_from_config(config) == AdaptationOptions(**{name: configured})
    assert options_from_config(config, **{name: override}) == AdaptationOptions(**{name: override})


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss_type": "ctc"},
        {"loss_type": "consistency"},
        {"parameters": ""},
        {"parameters": "norms+"},
        {"parameters": None},
        {"mask_prob": 1.0},
        {"mask_prob": -0.1},
        {"mask_span_frames": 0},
        {"steps": -1},
        {"steps": 1.0},
        {"steps": True},
        {"steps": 2**16},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": "0.1"},
        {"front_end_step": -1.0},
        {"layers": "first"},
        {"layers": ""},
        {"layers": "4-2"},
        {"layers": "0-1000000"},
        {"layers": 3},
        {"conv_layers": "0;1"},
        {"conv_layers": "-1"},
        {"exit_layer": -1},
        {"exit_layer": 1.5},
        {"temperature": 0.0},
        {"skip_entropy": -0.1},
        {"max_seconds": -1.0},
        {"skip_entropy": float("nan")},
        {"unadapted_share": 1.01},
        {"stream_decay": 1.0},
        {"mode": "forever"},
        {"reset_every": -1},
        {"seed": -1},
    ],
    ids=str,
)
def test_wrong_options_are_named(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UserError) as caught:
        AdaptationOptions(**wrong)
    message = str(caught.value)
    assert message.startswith(f"TTT option {name} is {value!r}; it must be ")
    assert "\n" not in message


def test_boundaries_are_accepted() -> None:
    nothing = dict.fromkeys(
        ("mask_prob", "learning_rate", "front_end_step", "max_seconds", "skip_entropy", "unadapted_share"), 0
    )
    options = AdaptationOptions(**nothing, steps=0, exit_layer=0, reset_every=0, mask_span_frames=1, seed=0)
    assert options.steps == 0
    assert AdaptationOptions(steps=999, temperature=1e-9, unadapted_share=1).temperature == 1e-9


@pytest.mark.parametrize(
    ("parameters", "groups"),
    [
        ("fast_weights", ("fast_weights",)),
        ("both", ("front_end", "fast_weights")),
        ("front_end+norms", ("front_end", "norms")),
        ("attention", ("attention",)),
    ],
)
def test_groups_are_joined_by_a_plus(parameters: str, groups: tuple[str, ...]) -> None:
    assert AdaptationOptions(parameters=parameters).groups == groups


class TestParseLayers:
    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("all", [0, 1, 2, 3, 4, 5, 6, 7]),
            ("0", [0]),
            ("7", [7]),
            ("2-2", [2]),
            ("0-3,7", [0, 1, 2, 3, 7]),
            ("6,1,4-5,1-2", [1, 2, 4, 5, 6]),
            (" 1 , 3 - 4 ", [1, 3, 4]),
        ],
    )
    def test_the_numbers_come_in_order_and_once(self, text: str, numbers: list[int]) -> None:
        assert list(parse_layers(text, 8)) == numbers

    @given(layers=st.sets(st.integers(0, 30), min_size=1))
    def test_any_list_is_read(self, layers: set[int]) -> None:
        assert list(parse_layers(",".join(map(str, layers)), 31)) == sorted(layers)
        assert list(parse_layers(f"{min(layers)}-{max(layers)}")) == list(range(min(layers), max(layers) + 1))

    @pytest.mark.parametrize("text", NO_LAYERS)
    def test_it_says_what_a_list_of_layers_is(self, text: str) -> None:
        with pytest.raises(ValueError, match='"all" or numbers from 0 such as "0-3,7"'):
            parse_layers(text, 8)

    @pytest.mark.parametrize("text", ["8", "0-8", "3,100", "8-9"])
    def test_it_names_the_layers_there_are(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"layers from 0 to 7\b"):
            parse_layers(text, 8)


class TestOldConfigurations:
    """Files of version 0.1, which has had a gate and a loss that are retired."""

    @pytest.mark.parametrize("accept", [True, False])
    def test_a_file_with_the_retired_gate_and_loss_is_read(self, tmp_path: Path, accept: bool) -> None:
        HybridASRConfig(ttt_steps=3).save_pretrained(tmp_path)
        path = tmp_path / "config.json"
        old = json.loads(path.read_text()) | {"ttt_accept": accept, "ttt_loss_type": "consistency"}
        del old["ttt_exit_layer"]
        path.write_text(json.dumps(old))
        for config in (HybridASRConfig.from_pretrained(tmp_path), HybridASRConfig.from_file(path)):
            assert options_from_config(config) == AdaptationOptions(loss_type="entropy_mcc", steps=3)
            assert "ttt_accept" not in config.to_dict()
