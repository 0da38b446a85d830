"""A start from Moonshine, checked against the model of `transformers` with random weights."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import MoonshineConfig, MoonshineModel, Wav2Vec2Config, Wav2Vec2Model

from lact_asr_model.checkpoint_io import load_checkpoint
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.moonshine import SPEECH_AMPLITUDE, MoonshineStem, copy_stack, load_moonshine_encoder
from lact_asr_model.training.pretrain_encoder import main as pretrain_encoder

SIZES = {
    "hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 2, "num_attn_heads": 4, "window_size": 256,
    "num_lact_heads": 2, "lact_hidden_size": 16, "partial_rotary_factor": 0.9, "encoder_target_ds_factor": 8,
    "conv_dim": [8] * 7, "conv_kernel": [12, 3, 3, 3, 3, 4, 4], "conv_stride": [6, 2, 2, 2, 2, 2, 2],
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


def speech(*num_samples: int) -> tuple[Tensor, Tensor]:
    """Noise of these lengths, padded, and the lengths."""
    torch.manual_seed(2)
    samples = [torch.randn(count, dtype=torch.float64) for count in num_samples]
    return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True), torch.tensor(num_samples)


@torch.no_grad()
def test_the_stack_answers_moonshines_stem_as_moonshine_does(moonshine_dir: Path) -> None:
    encoder, model = load_moonshine_encoder(str(moonshine_dir)).double(), model_of().double()
    copy_stack(encoder, model)
    num_frames = 50
    input_values, lengths = speech(model.config.num_samples(num_frames))
    features = MoonshineStem(encoder, model.config)(input_values, lengths)
    assert features.shape == (1, num_frames, 48)
    ours = model.run_stack(features, torch.ones(1, num_frames, dtype=torch.bool))
    theirs = encoder(SPEECH_AMPLITUDE * input_values).last_hidden_state
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() < 1e-6  # Moonshine's rotary angles are float32


@torch.no_grad()
def test_padding_does_not_change_what_the_stem_says(moonshine_dir: Path) -> None:
    config = model_of().config
    stem = MoonshineStem(load_moonshine_encoder(str(moonshine_dir)).double(), config)
    batch, lengths = speech(9_000, 16_000)
    alone = stem(batch[:1, :9_000], lengths[:1])
    assert (stem(batch, lengths)[:1, : alone.shape[1]] - alone).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("field", "value", "theirs"),
    [
        ("hidden_size", 64, "48"),
        ("intermediate_size", 64, "56"),
        ("num_hidden_layers", 3, "2"),
        ("num_attn_heads", 2, "4"),
        ("partial_rotary_factor", 1.0, "10"),
        ("encoder_target_ds_factor", 5, "384"),
    ],
)
def test_another_size_is_an_error_that_says_which(moonshine_dir: Path, field: str, value: float, theirs: str) -> None:
    encoder = load_moonshine_encoder(str(moonshine_dir))
    with pytest.raises(UserError, match=rf"moonshine: its \w+ is {theirs}, the config says") as caught:
        copy_stack(encoder, model_of(**{field: value}))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_kind_and_none_are_errors(tmp_path: Path) -> None:
    Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, conv_dim=[8] * 7,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        )
    ).save_pretrained(tmp_path / "wav2vec2")  # fmt: skip
    with pytest.raises(UserError, match="is a wav2vec2 model"):
        load_moonshine_encoder(str(tmp_path / "wav2vec2"))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_moonshine_encoder(str(tmp_path / "nothing"))


def test_the_encoder_learns_to_imitate_the_stem_and_the_stack_stays(
    moonshine_dir: Path, librispeech_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_path = tmp_path / "config.json"
    config_path.write_text(json.dumps({**SIZES, "wav2vec2_model_name": None}))
    options = {
        "config_path": config_path, "data_dir": librispeech_dir, "train_subset": "train-tiny",
        "output_dir": tmp_path / "model", "moonshine": moonshine_dir, "max_steps": 200, "peak_lr": 1e-2,
        "batch_seconds": 2, "num_workers": 0,
    }  # fmt: skip
    pretrain_encoder([text for name, value in options.items() for text in (f"--{name}", str(value))])
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert losses[-1] < 0.97 < losses[0]  # 1 is the loss of a guess of the mean; random filters are hard to imitate

    model, _ = load_checkpoint(tmp_path / "model")
    encoder, fresh = load_moonshine_encoder(str(moonshine_dir)), model_of(vocab_size=model.config.vocab_size)
    copy_stack(encoder, fresh)
    for name in ("layers.1.attention.q_proj.weight", "layers.0.feed_forward.2.bias", "final_norm.weight"):
        assert torch.equal(model.state_dict()[name], fresh.state_dict()[name]), name
