"""Configuration: validation that names field, value and remedy; frame geometry against brute force."""

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError

NAN, INFINITY = math.nan, math.inf
POSITIVE_COUNTS = (
    *("vocab_size", "sampling_rate", "encoder_target_ds_factor", "num_mel_bins", "num_hidden_layers", "hidden_size"),
    *("intermediate_size", "num_attn_heads", "window_size", "num_lact_heads", "lact_hidden_size", "lact_chunk_size"),
    *("mask_span_frames", "ttt_mask_span_frames"),
)
POSITIVE_NUMBERS = (
    *("rope_theta", "partial_rotary_factor", "layer_norm_eps", "initializer_range", "fast_weight_lr_init"),
    "ttt_temperature",
)
PROBABILITIES = (
    *("hidden_dropout", "attention_dropout", "feat_proj_dropout", "layerdrop", "mask_prob", "ttt_mask_prob"),
    *("ttt_stream_decay", "intermediate_ctc_weight"),
)
NOT_NEGATIVE_NUMBERS = (
    *(
        "encoder_lr_scale",
        "masked_prediction_weight",
        "ttt_learning_rate",
        "ttt_front_end_step",
        "ttt_max_seconds",
        "ttt_skip_entropy",
    ),
)
NOT_NEGATIVE_COUNTS = ("ttt_steps", "ttt_steps_with_lm", "ttt_reset_every", "ttt_exit_layer", "pad_token_id")
SWITCHES = ("use_wav2vec2_encoder", "freeze_encoder", "conv_bias", "fast_weight_muon", "enable_ttt")
CHOICES = {
    "feat_extract_norm": ("group", "layer"),
    "newton_schulz_schedule": ("muon", "polar_express"),
    "ttt_loss_type": ("masked_prediction", "entropy", "entropy_mcc"),
    "ttt_mode": ("episodic", "continual"),
    "ttt_speed": ("exact", "fast"),
    "hidden_act": ("gelu", "relu"),
    "feat_extract_activation": ("gelu", "relu"),
}
CONV_LISTS = ("conv_dim", "conv_kernel", "conv_stride")
LAYER_LISTS = {"ttt_layers": 16, "ttt_conv_layers": 7}  # how many the default configuration has
NO_LAYERS = ("", " ", ",", "3,", "first", "-1", "3-", "3-1", "1.5", "0-2-4", "ALL", None, 3, [0, 1])
NO_RISING_BLOCKS = (None, 3, "3", [0], [16], [-1], [2, 1], [1, 1], [1.0], ["1"], [True], [1, None])
FREE = ("wav2vec2_model_name", "bos_token_id", "eos_token_id")

INVALID: list[tuple[str, Any]] = [
    *(("encoder_type", value) for value in ("hubert", 3, None)),
    *((name, value) for name in POSITIVE_COUNTS for value in (0, -1, 2.5, "3", True, None)),
    *((name, value) for name in POSITIVE_NUMBERS for value in (0, -0.1, "x", True, None, NAN, INFINITY)),
    *((name, value) for name in PROBABILITIES for value in (-0.1, 1, 1.5, "x", True, None, NAN)),
    *((name, value) for name in NOT_NEGATIVE_NUMBERS for value in (-0.1, "x", True, None, NAN, INFINITY)),
    *((name, value) for name in NOT_NEGATIVE_COUNTS for value in (-1, 0.5, "x", True, None)),
    *((name, value) for name in SWITCHES for value in (1, 0, "yes", None)),
    *((name, value) for name in CHOICES for value in ("nonsense", None, 3)),
    *((name, value) for name in CONV_LISTS for value in (None, 4, [4] * 6, [4] * 8, [4.0] * 7, [0] * 7, ["a"] * 7)),
    *((name, value) for name in LAYER_LISTS for value in NO_LAYERS),
    *((name, value) for name, count in LAYER_LISTS.items() for value in (f"{count}", f"0-{count}", f"1,{count + 5}")),
    *(("intermediate_ctc_layers", value) for value in NO_RISING_BLOCKS),
    ("conv_stride", [5, 2, 2, 2, 2, 2, 1]),
    *(("sampling_rate", value) for value in (8000, 44100, 15999)),
    ("num_attn_heads", 7),
    ("partial_rotary_factor", 0.02),  # not one pair of the 96 dimensions of a head
    ("partial_rotary_factor", 1.1),
    ("num_lact_heads", 5),
    ("pad_token_id", 30),
    ("wav2vec2_model_name", 3),
    *(("ttt_parameters", value) for value in ("", "norms+", None, 3)),
    *(("intermediate_ctc_layers", value) for value in (None, 3, "3", [0], [16], [3, 2], [2, 2], [2.0], [True])),
    *(("ttt_unadapted_share", value) for value in (-0.1, 1.1, "x", True, None, NAN)),
    ("ttt_exit_layer", 1),  # no intermediate head is there by default
]


@pytest.mark.parametrize(("name", "value"), INVALID, ids=[f"{name}={value!r}" for name, value in INVALID])
def test_invalid_value_is_rejected_with_name_value_and_remedy(name: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        HybridASRConfig(**{name: value})
    message = str(caught.value)
    assert f"{name} is {value!r}" in message
    assert "must be" in message
    assert "\n" not in message


def test_every_field_is_covered_by_the_cases_above() -> None:
    covered = {name for name, _ in INVALID} | set(FREE)
    assert covered == set(HybridASRConfig.own_fields())


@pytest.mark.parametrize(("name", "choices"), CHOICES.items())
def test_every_documented_choice_is_accepted(name: str, choices: tuple[str, ...]) -> None:
    for choice in choices:
        assert getattr(HybridASRConfig(**{name: choice}), name) == choice


def test_boundaries_are_accepted() -> None:
    HybridASRConfig(**dict.fromkeys(PROBABILITIES, 0), **dict.fromkeys(NOT_NEGATIVE_NUMBERS, 0))
    HybridASRConfig(**dict.fromkeys(NOT_NEGATIVE_COUNTS, 0), ttt_layers="0-15", ttt_conv_layers="0,6")
    assert HybridASRConfig(partial_rotary_factor=0.03).rotary_size == 2
    assert HybridASRConfig(partial_rotary_factor=1).rotary_size == 96
    HybridASRConfig(num_attn_heads=12, num_lact_heads=1, wav2vec2_model_name=None)
    HybridASRConfig(intermediate_ctc_layers=[1, 7, 15])


def test_intermediate_heads_are_those_of_the_models_own_depth() -> None:
    assert HybridASRConfig().intermediate_ctc_layers == ()
    assert HybridASRConfig(num_hidden_layers=20, intermediate_ctc_layers=[19]).intermediate_ctc_layers == [19]
    with pytest.raises(UserError, match=r"intermediate_ctc_layers is \[3\].*blocks from 1 to 2\b"):
        HybridASRConfig(num_hidden_layers=3, intermediate_ctc_layers=[3])
    assert HybridASRConfig(intermediate_ctc_layers=[1, 15], ttt_exit_layer=15).ttt_exit_layer == 15


def test_chosen_layers_are_those_of_the_models_own_depth() -> None:
    assert HybridASRConfig(num_hidden_layers=20, ttt_layers="19").ttt_layers == "19"
    with pytest.raises(UserError, match=r"ttt_layers is '15'.*layers from 0 to 1\b"):
        HybridASRConfig(num_hidden_layers=2, ttt_layers="15")


def test_odd_head_size_is_rejected_because_of_rope() -> None:
    with pytest.raises(UserError, match="num_attn_heads is 4.*even"):
        HybridASRConfig(hidden_size=12, num_attn_heads=4, num_lact_heads=1)


def test_defaults_are_those_of_the_specification() -> None:
    config = HybridASRConfig()
    specified = {
        "num_hidden_layers": 16, "hidden_size": 768, "intermediate_size": 3072, "num_attn_heads": 8,
        "num_lact_heads": 4, "lact_hidden_size": 1536, "encoder_target_ds_factor": 5, "encoder_lr_scale": 0.1,
        "hidden_dropout": 0.1, "feat_proj_dropout": 0.1, "layerdrop": 0.05, "fast_weight_lr_init": 0.01,
        "ttt_loss_type": "masked_prediction", "ttt_mask_prob": 0.15, "freeze_encoder": False,
        "use_wav2vec2_encoder": True,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in specified} == specified
    assert config.num_frames(10 * 16000) == 799
    assert config.samples_per_frame == 200
    assert config.frame_seconds == 0.0125
    assert config.inputs_to_logits_ratio == 200


def frames_by_sliding_a_window(config: HybridASRConfig, num_samples: int) -> int:
    starts = range(0, num_samples - config.receptive_field_samples + 1, config.samples_per_frame)
    return len(starts)


@given(factor=st.integers(1, 16), num_samples=st.integers(0, 5000))
def test_num_frames_counts_whole_receptive_fields(factor: int, num_samples: int) -> None:
    config = HybridASRConfig(encoder_target_ds_factor=factor)
    assert config.receptive_field_samples == 400
    expected = frames_by_sliding_a_window(config, num_samples)
    assert config.num_frames(num_samples) == expected
    assert config.num_frames(torch.tensor([num_samples, 0])).tolist() == [expected, 0]


@given(factor=st.integers(1, 16), num_frames=st.integers(0, 10_000))
def test_num_samples_is_the_smallest_that_gives_the_frames(factor: int, num_frames: int) -> None:
    config = HybridASRConfig(encoder_target_ds_factor=factor)
    num_samples = config.num_samples(num_frames)
    assert config.num_frames(num_samples) == num_frames
    assert num_samples == 0 or config.num_frames(num_samples - 1) == num_frames - 1


def test_receptive_field_follows_the_conv_layers() -> None:
    """A window of kernel 3, then a kernel 2 over steps of the stride before it: 3 + (2 - 1) * 4 for strides 4 and 1."""
    config = HybridASRConfig(conv_kernel=[3, 2, 1, 1, 1, 1, 1], conv_stride=[4, 1, 1, 1, 2, 2, 2])
    assert config.receptive_field_samples == 3 + 4
    assert config.samples_per_frame == 4 * 5


class TestMoonshineStem:
    STEM: ClassVar[dict[str, Any]] = {
        "feat_extract_norm": "moonshine", "hidden_size": 288, "encoder_target_ds_factor": 6,
        "conv_dim": [288, 576, 288], "conv_kernel": [127, 7, 3], "conv_stride": [64, 3, 2],
    }  # fmt: skip

    def test_geometry(self) -> None:
        """64 * 3 * 2 samples from frame to frame; 3 windows of 7 windows: 127 + (7 - 1) * 64 + (3 - 1) * 64 * 3."""
        config = HybridASRConfig(**self.STEM)
        assert config.samples_per_frame == 384
        assert config.receptive_field_samples == 895
        assert HybridASRConfig(**{**self.STEM, "encoder_target_ds_factor": 4}).samples_per_frame == 256

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("conv_kernel", [3] * 7), ("conv_stride", [64, 2, 2]), ("conv_dim", [288, 576, 256]),
            ("ttt_conv_layers", "0-3"),
        ],
    )  # fmt: skip
    def test_what_is_not_one(self, name: str, value: Any) -> None:
        with pytest.raises(UserError, match=f"config field {name} is"):
            HybridASRConfig(**{**self.STEM, name: value})


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_attn_heads": 2, "num_lact_heads": 2, "conv_dim": [16] * 7, "window_size": 9}
    config = HybridASRConfig(**sizes, intermediate_ctc_layers=[2, 5])
    config.save_pretrained(tmp_path)
    loaded = HybridASRConfig.from_pretrained(tmp_path)
    lists = {*CONV_LISTS, "intermediate_ctc_layers"}
    for name in set(HybridASRConfig.own_fields()) - lists:
        assert getattr(loaded, name) == getattr(config, name)
    for name in lists:  # JSON has no tuples
        assert list(getattr(loaded, name)) == list(getattr(config, name))


class TestFromFile:
    def test_reads_fields(self, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"model_type": "hybrid_asr", "window_size": 64}))
        assert HybridASRConfig.from_file(path).window_size == 64

    def test_reads_its_own_saved_form(self, tmp_path: Path) -> None:
        """The config.json of a checkpoint is the first file a researcher will try as --config_path."""
        HybridASRConfig(window_size=64).save_pretrained(tmp_path)
        assert HybridASRConfig.from_file(tmp_path / "config.json").window_size == 64

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("{", "not valid JSON"),
            ("", "not valid JSON"),
            ("[1]", "one JSON object"),
            ('{"windowsize": 3}', "unknown field 'windowsize'"),
            ('{"window_size": 0}', "window_size is 0"),
        ],
    )
    def test_bad_content_is_one_clear_line(self, tmp_path: Path, content: str, problem: str) -> None:
        path = tmp_path / "config.json"
        path.write_text(content)
        with pytest.raises(UserError) as caught:
            HybridASRConfig.from_file(path)
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_binary_file(self, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        path.write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(UserError, match="not valid JSON"):
            HybridASRConfig.from_file(path)

    @pytest.mark.parametrize("name", ["missing.json", "."])
    def test_unreadable_path(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UserError, match="cannot be read"):
            HybridASRConfig.from_file(tmp_path / name)
