"""A log-mel front end in the place of the conv encoder, at the same frame rate."""

import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.ops.masks import length_mask


class LogMelEncoder(nn.Module):
    """Log-mel energies of 25 ms windows, one per frame, normalised per band over the utterance."""

    filters: Tensor
    window: Tensor

    def __init__(self, config: HybridASRConfig) -> None:
        super().__init__()
        self.config = config
        self.output_size = config.num_mel_bins
        window_samples = config.receptive_field_samples
        filters = mel_filter_bank(
            num_frequency_bins=window_samples // 2 + 1,
            num_mel_filters=config.num_mel_bins,
            min_frequency=20.0,
            max_frequency=config.sampling_rate / 2,
            sampling_rate=config.sampling_rate,
        )
        self.register_buffer("filters", torch.from_numpy(filters).float())
        self.register_buffer("window", torch.hann_window(window_samples))

    def forward(self, input_values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """input_values [batch, samples], true lengths [batch] in samples, to [batch, frames, num_mel_bins]."""
        energies = self.log_energies(input_values)
        num_frames = self.config.num_frames(
            lengths if lengths is not None else energies.new_full((len(energies),), input_values.shape[-1]).long()
        )
        mask = length_mask(num_frames, energies.shape[1])[..., None]
        count = num_frames.clamp(min=1)[:, None, None]
        mean = energies.masked_fill(~mask, 0).sum(1, keepdim=True) / count
        variance = (energies - mean).masked_fill(~mask, 0).square().sum(1, keepdim=True) / count
        return ((energies - mean) * torch.rsqrt(variance + 1e-5)).masked_fill(~mask, 0)

    def log_energies(self, input_values: Tensor) -> Tensor:
        """Natural logarithm of the mel energies, not normalised: [batch, samples] to [batch, frames, num_mel_bins]."""
        frames = input_values.unfold(-1, self.config.receptive_field_samples, self.config.samples_per_frame)
        spectrum = torch.fft.rfft(frames.float() * self.window).abs().square()
        return torch.log(spectrum @ self.filters + 1e-6)
