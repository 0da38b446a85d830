"""A start from Moonshine, checked against the model of `transformers` with random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MoonshineConfig, MoonshineModel, Wav2Vec2Config, Wav2Vec2Model

from lact_asr_model.checkpoint_io import load_checkpoint
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.moonshine import SPEECH_AMPLITUDE, copy_encoder, load_moonshine_encoder, main

SIZES = {
    "hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 2, "num_attn_heads": 4, "window_size": 256,
    "num_lact_heads": 2, "lact_hidden_size": 16, "partial_rotary_factor": 0.9, "wav2vec2_model_name": None,
    "encoder_type": "moonshine", "encoder_target_ds_factor": 6, "conv_dim": [48, 96, 48], "conv_bias": True,
    "conv_kernel": [127, 7, 3], "conv_stride": [64, 3, 2],
}  # fmt: skip


@pytest.fixture(scope="module")
def moonshine_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Moonshine checkpoint of two layers whose norms and biases are random, too."""
    folder = tmp_path_factory.mktemp("moonshine")
    torch.manual_seed(0)
    model = MoonshineModel(
        MoonshineConfig(
            hidden_size=48,
            intermediate_size=56,
            encoder_num_hidden_layers=2,
            decoder_num_hidden_layers=1,
            encoder_num_attention_heads=4,
            decoder_num_attention_heads=4,
            vocab_size=8,
        )
    )
    for parameter in model.parameters():
        spread = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.5
        parameter.data = spread * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return folder


def model_of(**fields: object) -> HybridASRForCTC:
    torch.manual_seed(1)
    return HybridASRForCTC(HybridASRConfig(**{**SIZES, **fields})).eval()


@torch.no_grad()
def test_the_model_hears_what_moonshine_hears(moonshine_dir: Path) -> None:
    encoder, model = load_moonshine_encoder(str(moonshine_dir)).double(), model_of().double()
    copy_encoder(encoder, model)
    num_frames = 50
    input_values = torch.randn(1, model.config.num_samples(num_frames), dtype=torch.float64)
    features, frame_mask = model.encode(input_values)
    assert features.shape == (1, num_frames, 48)
    ours = model.run_stack(features, frame_mask)
    theirs = encoder(SPEECH_AMPLITUDE * input_values).last_hidden_state
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() < 1e-6  # Moonshine's rotary angles are float32


@pytest.mark.parametrize(
    ("fields", "theirs"),
    [
        ({"hidden_size": 64, "conv_dim": [48, 96, 64]}, "hidden_size is 48"),
        ({"intermediate_size": 64}, "intermediate_size is 56"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 2"),
        ({"num_attn_heads": 2}, "num_attn_heads is 4"),
        ({"partial_rotary_factor": 1.0}, "rotary_size is 10"),
        ({"encoder_target_ds_factor": 5}, "encoder_target_ds_factor is 6"),
        ({"conv_dim": [48, 48, 48]}, r"conv_dim is \[48, 96, 48\]"),
        ({"conv_kernel": [127, 5, 3]}, r"conv_kernel is \[127, 7, 3\]"),
        ({"conv_bias": False}, "conv_bias is True"),
        ({"use_wav2vec2_encoder": False}, "use_wav2vec2_encoder is True"),
        (
            {"encoder_type": "wav2vec2", "conv_dim": [48] * 7, "conv_kernel": [3] * 7, "conv_stride": [6, *[2] * 6]},
            "encoder_type is moonshine",
        ),
    ],
)
def test_another_size_is_an_error_that_says_which(moonshine_dir: Path, fields: dict[str, Any], theirs: str) -> None:
    encoder = load_moonshine_encoder(str(moonshine_dir))
    with pytest.raises(UserError, match=f"moonshine: its {theirs}, the config says") as caught:
        copy_encoder(encoder, model_of(**fields))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_kind_and_none_are_errors(tmp_path: Path) -> None:
    Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, conv_dim=[8] * 7,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        )
    ).save_pretrained(tmp_path / "wav2vec2")  # fmt: skip
    path = tmp_path / "wav2vec2"
    with pytest.raises(UserError, match=f"^moonshine {path}: is a wav2vec2 model; give a Moonshine checkpoint$"):
        load_moonshine_encoder(str(path))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_moonshine_encoder(str(tmp_path / "nothing"))


def test_the_command_saves_a_checkpoint_to_train(moonshine_dir: Path, librispeech_dir: Path, tmp_path: Path) -> None:
    config_path = tmp_path / "config.json"
    config_path.write_text(json.dumps(SIZES))
    options = {
        "config_path": config_path, "moonshine": moonshine_dir, "data_dir": librispeech_dir,
        "train_subset": "train-tiny", "output_dir": tmp_path / "model",
    }  # fmt: skip
    main([text for name, value in options.items() for text in (f"--{name}", str(value))])
    model, processor = load_checkpoint(tmp_path / "model")
    assert 3 < model.config.vocab_size == len(processor.tokenizer)
    expected = model_of(vocab_size=model.config.vocab_size)
    copy_encoder(load_moonshine_encoder(str(moonshine_dir)), expected)
    for name in ("encoder.conv_layers.0.conv.weight", "layers.0.feed_forward.2.bias", "final_norm.weight"):
        assert torch.equal(model.state_dict()[name], expected.state_dict()[name]), name
