"""The conv encoder against `transformers`, at every frame rate, padded and not; the log-mel front end beside it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
)

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.log_mel_encoder import LogMelEncoder
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.wav2vec2_encoder import Wav2Vec2ConvEncoder

CHANNELS = 32
FACTORS = range(1, 17)
CHECKPOINT_SIZES = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "vocab_size": 5,
}  # fmt: skip
MODEL_SIZES = {
    "num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_attn_heads": 2, "num_lact_heads": 2,
    "lact_hidden_size": 8, "window_size": 8,
}  # fmt: skip
LAYER_NORM = {"feat_extract_norm": "layer", "conv_bias": True}
MOONSHINE = {
    "feat_extract_norm": "moonshine", "conv_bias": True, "conv_dim": [CHANNELS, 2 * CHANNELS, 16],
    "conv_kernel": [127, 7, 3], "conv_stride": [64, 3, 2],
}  # fmt: skip


def randomize(module: nn.Module) -> None:
    """Norm scales and biases too, which start at one and zero: a swapped or forgotten one must show.

    Filters get a spread that keeps the signal's size through seven layers, so that absolute tolerances mean something.
    """
    generator = torch.Generator().manual_seed(11)
    for name, parameter in module.named_parameters():
        spread = (2.5 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.3
        offset = 1.0 if name.endswith("layer_norm.weight") else 0.0
        parameter.data = offset + spread * torch.randn(parameter.shape, generator=generator)


def save_checkpoint(folder: Path, kind: str, **sizes: Any) -> PreTrainedModel:
    """A random checkpoint as `save_pretrained` writes it."""
    config_class, model_class = {
        "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
        "wav2vec2_ctc": (Wav2Vec2Config, Wav2Vec2ForCTC),
        "hubert": (HubertConfig, HubertModel),
        "data2vec-audio": (Data2VecAudioConfig, Data2VecAudioModel),
    }[kind]
    torch.manual_seed(0)
    model = model_class(config_class(**{**CHECKPOINT_SIZES, "conv_dim": [CHANNELS] * 7, **sizes})).eval()
    randomize(getattr(model, model.base_model_prefix, model).feature_extractor)
    model.save_pretrained(folder)
    return model


def model_config(factor: int = 8, **fields: Any) -> HybridASRConfig:
    return HybridASRConfig(**{**MODEL_SIZES, "conv_dim": [CHANNELS] * 7, "encoder_target_ds_factor": factor, **fields})


@cache
def random_encoder(factor: int, feat_extract_norm: str = "group") -> Wav2Vec2ConvEncoder:
    """The same weights at every factor."""
    torch.manual_seed(0)
    fields = MOONSHINE if feat_extract_norm == "moonshine" else {"feat_extract_norm": feat_extract_norm}
    encoder = Wav2Vec2ConvEncoder(model_config(factor, **fields)).eval()
    randomize(encoder)
    return encoder.requires_grad_(False)


def front_end(kind: str, factor: int) -> Wav2Vec2ConvEncoder | LogMelEncoder:
    return LogMelEncoder(model_config(factor)) if kind == "log_mel" else random_encoder(factor, kind)


def noise(num_samples: int, batch_size: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(batch_size, num_samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("kind", "checkpoint_fields", "own_fields"),
    [
        ("wav2vec2", {}, {}),
        ("wav2vec2_ctc", {}, {}),
        ("hubert", {}, {}),
        ("data2vec-audio", {}, {"feat_extract_norm": "layer"}),
        ("data2vec-audio", {"conv_bias": True}, LAYER_NORM),
        ("wav2vec2", LAYER_NORM, LAYER_NORM),
        ("hubert", LAYER_NORM, LAYER_NORM),
        ("wav2vec2", {"conv_dim": [512] * 7}, {"conv_dim": [512] * 7}),
    ],
    ids=lambda value: str(value),
)
def test_factor_8_is_the_pretrained_encoder_bit_for_bit(
    kind: str, checkpoint_fields: dict[str, Any], own_fields: dict[str, Any], tmp_path: Path
) -> None:
    reference = save_checkpoint(tmp_path, kind, **checkpoint_fields)
    model = HybridASRForCTC(model_config(8, **own_fields)).eval()
    model.load_pretrained_encoder(str(tmp_path))
    feature_extractor = getattr(reference, reference.base_model_prefix, reference).feature_extractor
    audio = noise(4321, batch_size=2)
    with torch.no_grad():
        expected = feature_extractor(audio).mT
        frames = model.encoder(audio)
    assert frames.shape == (2, reference._get_feat_extract_output_lengths(4321), expected.shape[-1])
    assert frames.std() > 0.1
    assert torch.equal(frames, expected)


@pytest.mark.parametrize("feat_extract_norm", ["group", "layer"])
def test_at_factor_5_every_8th_frame_is_every_5th_frame_of_factor_8(feat_extract_norm: str) -> None:
    audio = noise(20_000, batch_size=2)
    fine, coarse = random_encoder(5, feat_extract_norm)(audio)[:, ::8], random_encoder(8, feat_extract_norm)(audio)
    shared = fine.shape[1]
    assert shared == 13
    assert fine.std() > 0.1
    assert (fine - coarse[:, ::5][:, :shared]).abs().max() == 0.0


@pytest.mark.parametrize("feat_extract_norm", ["group", "moonshine"])
@pytest.mark.parametrize("factor", FACTORS)
def test_every_factor_picks_frames_of_the_finest_grid(factor: int, feat_extract_norm: str) -> None:
    """Factor 1 evaluates the last layer everywhere; any factor must give exactly every factor-th of its frames."""
    audio = noise(6000)
    everywhere = random_encoder(1, feat_extract_norm)(audio)
    frames = random_encoder(factor, feat_extract_norm)(audio)
    assert frames.shape[1] > 1 and frames.std() > 0.1
    assert (frames - everywhere[:, ::factor]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["group", "moonshine", "log_mel"])
@given(factor=st.integers(1, 16), num_samples=st.integers(895, 4000))
@settings(max_examples=40, deadline=None)
def test_number_of_frames_is_the_configured_one(kind: str, factor: int, num_samples: int) -> None:
    encoder = front_end(kind, factor)
    assert encoder(noise(num_samples)).shape[1] == encoder.config.num_frames(num_samples)


@pytest.mark.parametrize("kind", ["group", "moonshine", "log_mel"])
@pytest.mark.parametrize("factor", [1, 3, 5, 8])
def test_padding_does_not_change_an_utterance(kind: str, factor: int) -> None:
    """GroupNorm runs over time: its statistics must leave out padding, whatever stands there."""
    encoder = front_end(kind, factor)
    lengths = torch.tensor([3000, 6000, 901, 4444])
    padded = 100 * noise(6000, batch_size=4, seed=1)
    for row, length in enumerate(lengths.tolist()):
        padded[row, :length] = noise(length, seed=row)[0]
    frames = encoder(padded, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(noise(length, seed=row))[0]
        assert (frames[row, : len(alone)] - alone).abs().max() < 1e-5


def test_statistics_of_padding_would_show() -> None:
    """The test above can fail: without lengths the same batch differs by far more than its tolerance."""
    alone = random_encoder(8)(noise(3000))
    padded = random_encoder(8)(torch.cat([noise(3000), 100 * noise(3000, seed=1)], dim=1))
    assert (padded[:, : alone.shape[1]] - alone).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["group", "moonshine", "log_mel"])
def test_an_utterance_without_a_whole_frame_in_a_batch_is_finite(kind: str) -> None:
    encoder = front_end(kind, 8)
    audio = noise(2000, batch_size=3)
    audio[1:] = 0
    assert encoder(audio, torch.tensor([2000, 100, 0])).isfinite().all()


@pytest.mark.parametrize("kind", ["group", "moonshine", "log_mel"])
def test_silence_is_finite(kind: str) -> None:
    encoder = front_end(kind, 8)
    assert encoder(torch.zeros(1, 4000)).isfinite().all()


def test_gradients_of_a_padded_batch_are_those_of_the_utterances() -> None:
    lengths = torch.tensor([2000, 4000])
    padded = torch.zeros(2, 4000)
    padded[0, :2000], padded[1] = noise(2000, seed=0)[0], noise(4000, seed=1)[0]
    config = model_config(8)

    def gradient(batches: list[tuple[Tensor, Tensor | None]]) -> Tensor:
        torch.manual_seed(0)
        encoder = Wav2Vec2ConvEncoder(config)
        randomize(encoder)
        for audio, true_lengths in batches:
            frames = encoder(audio, true_lengths)
            for row in range(len(audio)):
                length = audio.shape[1] if true_lengths is None else int(true_lengths[row])
                frames[row, : config.num_frames(length)].square().sum().backward(retain_graph=True)
        return torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()])

    together = gradient([(padded, lengths)])
    one_by_one = gradient([(padded[:1, :2000], None), (padded[1:], None)])
    assert (together - one_by_one).abs().max() < 1e-4 * one_by_one.abs().max()


class TestFreezing:
    def gradients(self, freeze_encoder: bool) -> tuple[list[Tensor | None], list[Tensor | None]]:
        model = HybridASRForCTC(model_config(8, freeze_encoder=freeze_encoder)).train()
        model(noise(4000), labels=torch.tensor([[3, 4]])).loss.backward()
        encoder = [parameter.grad for parameter in model.encoder_parameters()]
        return encoder, [parameter.grad for parameter in model.feature_projection.parameters()]

    def test_frozen_encoder_gets_no_gradient_but_the_projection_does(self) -> None:
        encoder, projection = self.gradients(freeze_encoder=True)
        assert encoder
        assert all(gradient is None for gradient in encoder)
        assert all(gradient is not None and gradient.abs().max() > 0 for gradient in projection)

    def test_unfrozen_encoder_gets_gradients(self) -> None:
        encoder, _ = self.gradients(freeze_encoder=False)
        assert all(gradient is not None and gradient.abs().max() > 0 for gradient in encoder)

    def test_frozen_stays_frozen_through_loading(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "pretrained", "wav2vec2")
        model = HybridASRForCTC(model_config(8, freeze_encoder=True))
        model.load_pretrained_encoder(str(tmp_path / "pretrained"))
        assert not any(parameter.requires_grad for parameter in model.encoder_parameters())
        model.save_pretrained(tmp_path / "saved")
        loaded = HybridASRForCTC.from_pretrained(tmp_path / "saved")
        assert not any(parameter.requires_grad for parameter in loaded.encoder_parameters())
        assert all(parameter.requires_grad for parameter in loaded.other_parameters())


class TestWrongCheckpoint:
    """Each is one line that names the checkpoint, and leaves the encoder as it was."""

    def check(self, folder: Path, problem: str = "pretrained encoder", **fields: Any) -> None:
        model = HybridASRForCTC(model_config(8, **fields))
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        with pytest.raises(UserError, match=problem) as caught:
            model.load_pretrained_encoder(str(folder))
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())

    def test_missing_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path / "nothing")

    def test_empty_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path)

    def test_config_without_weights(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, "wav2vec2")
        (tmp_path / "model.safetensors").unlink()
        self.check(tmp_path)

    def test_corrupt_weights(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, "wav2vec2")
        (tmp_path / "model.safetensors").write_bytes(b"not a safetensors file")
        self.check(tmp_path)

    def test_corrupt_config(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{")
        self.check(tmp_path)

    def test_another_kind_of_model(self, tmp_path: Path) -> None:
        BertConfig().save_pretrained(tmp_path)
        self.check(tmp_path, "bert")

    def test_other_sizes(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, "wav2vec2", conv_dim=[24] * 7)
        self.check(tmp_path, "conv_dim")

    def test_other_norm(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, "data2vec-audio")
        self.check(tmp_path, "feat_extract_norm")

    def test_other_activation(self, tmp_path: Path) -> None:
        """Silently running pretrained filters with another nonlinearity would be worse than an error."""
        save_checkpoint(tmp_path, "wav2vec2", feat_extract_activation="relu")
        self.check(tmp_path, "feat_extract_activation")

    def test_weights_without_the_conv_layers(self, tmp_path: Path) -> None:
        """`from_pretrained` only warns about missing weights and makes up random ones."""
        save_checkpoint(tmp_path, "wav2vec2")
        weights = load_file(tmp_path / "model.safetensors")
        kept = {name: weight for name, weight in weights.items() if not name.startswith("feature_extractor")}
        assert 0 < len(kept) < len(weights)
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        self.check(tmp_path)

    def test_weights_of_another_model_under_a_wav2vec2_config(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, "wav2vec2")
        config = (tmp_path / "config.json").read_text()
        HybridASRForCTC(model_config(8, use_wav2vec2_encoder=False)).save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(config)
        self.check(tmp_path)

    def test_log_mel_front_end_has_nothing_to_load(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, "wav2vec2")
        self.check(tmp_path, "use_wav2vec2_encoder", use_wav2vec2_encoder=False)

    def test_sizes_saved_as_tuples_or_lists_are_the_same(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, "wav2vec2")
        assert isinstance(json.loads((tmp_path / "config.json").read_text())["conv_dim"], list)
        HybridASRForCTC(model_config(8, conv_dim=(CHANNELS,) * 7)).load_pretrained_encoder(str(tmp_path))


class TestLogMel:
    @pytest.mark.parametrize("frequency_hz", [200, 1000, 3000, 7000])
    def test_a_tone_is_loudest_in_the_band_around_it(self, frequency_hz: int) -> None:
        encoder = LogMelEncoder(model_config(5))
        tone = torch.from_numpy(np.sin(2 * np.pi * frequency_hz * np.arange(4000) / 16000)).float()[None]
        loudest = encoder.log_energies(tone)[0].mean(0).argmax()
        bin_frequencies_hz = torch.linspace(0, 8000, encoder.filters.shape[0])
        weights = encoder.filters[:, loudest]
        centre_hz = float((weights * bin_frequencies_hz).sum() / weights.sum())
        assert abs(centre_hz - frequency_hz) < 60 + 0.05 * frequency_hz

    def test_every_band_hears_something(self) -> None:
        assert (LogMelEncoder(model_config(5)).filters.sum(0) > 0.01).all()

    def test_loudness_of_a_recording_does_not_matter(self) -> None:
        encoder = LogMelEncoder(model_config(5))
        audio = noise(8000)
        assert (encoder(10 * audio) - encoder(audio)).abs().max() < 1e-2

    def test_model_runs_on_it(self) -> None:
        model = HybridASRForCTC(model_config(5, use_wav2vec2_encoder=False)).eval()
        assert model(noise(16000)).logits.shape == (1, model.config.num_frames(16000), model.config.vocab_size)
        assert model.encoder_parameters() == []
