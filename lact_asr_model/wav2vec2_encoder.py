"""The wav2vec2 conv encoder at a changed frame rate, and its pretrained weights.

wav2vec2's seven conv layers stride by 5, 2, 2, 2, 2, 2, 2 samples. Lowering a stride would feed every later filter
inputs at distances it was never trained on. Here the last three layers keep their taps where they were, in samples
(on the 40-sample grid that the first four layers make: dilations 1, 2, 4), and only the places where the last layer is
evaluated change. At factor 8 that is wav2vec2 itself, bit for bit; at any other factor a frame is exactly the frame
wav2vec2 would give for the audio shifted to that place.

Moonshine's conv stem is such an encoder, too: three layers on a grid of 64 samples, the last two of which follow the
frame rate in the same way (`encoder_type` "moonshine"; its own rate is factor 6, 24 ms).

Sources: Baevski et al. 2020, "wav2vec 2.0", arXiv:2006.11477; Jeffries et al. 2024, "Moonshine", arXiv:2410.15608.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from lact_asr_model.activations import activation
from lact_asr_model.configuration_hybrid_asr import MOONSHINE, HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.ops.masks import length_mask

PRETRAINED_MODEL_TYPES = ("wav2vec2", "hubert", "data2vec-audio")
_SHARED_FIELDS = (
    *("conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm", "feat_extract_activation"),
)
_GROUP_NORM_EPSILON = 1e-5
NO_FILTERS: Mapping[int, Tensor] = {}


def conv_strides_and_dilations(config: HybridASRConfig) -> list[tuple[int, int]]:
    """(stride, dilation) of each conv layer such that the last one makes a frame every `samples_per_frame` samples.

    A layer computes only the grid points that later layers read: the grid of its outputs is the greatest common
    divisor of the steps by which they are read.
    """
    stem_strides = config.conv_stride[: -config.num_rate_layers]
    rate_strides = config.conv_stride[-config.num_rate_layers :]
    tap_distances = [math.prod(rate_strides[:index]) for index in range(len(rate_strides))]
    grids = [config.encoder_target_ds_factor]
    for distance in reversed(tap_distances):
        grids.insert(0, math.gcd(grids[0], distance))
    rate_layers = [
        (grid_out // grid_in, distance // grid_in)
        for grid_in, grid_out, distance in zip(grids, grids[1:], tap_distances, strict=False)
    ]
    return [(stride, 1) for stride in stem_strides] + rate_layers


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm with one group per channel, or with one group, whose statistics over time leave padding out."""

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        """hidden [batch, channels, time]; lengths [batch] of the true part, None where nothing is padded."""
        if lengths is None:
            return super().forward(hidden)
        mask = length_mask(lengths, hidden.shape[-1])[:, None]
        dims = (1, 2) if self.num_groups == 1 else (2,)
        count = lengths.clamp(min=1)[:, None, None] * (self.num_channels // self.num_groups)
        mean = hidden.masked_fill(~mask, 0).sum(dims, keepdim=True) / count
        variance = (hidden - mean).masked_fill(~mask, 0).square().sum(dims, keepdim=True) / count
        normalized = (hidden - mean) * torch.rsqrt(variance + self.eps)
        return normalized * self.weight[:, None] + self.bias[:, None]


class ConvLayer(nn.Module):
    """Convolution without padding, optional norm, activation. Parameter names are those of `transformers`."""

    def __init__(self, config: HybridASRConfig, index: int, stride: int, dilation: int) -> None:
        super().__init__()
        in_channels = config.conv_dim[index - 1] if index > 0 else 1
        channels, kernel = config.conv_dim[index], config.conv_kernel[index]
        self.conv = nn.Conv1d(in_channels, channels, kernel, stride, dilation=dilation, bias=config.conv_bias)
        self.layer_norm: nn.Module | None = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = nn.LayerNorm(channels)
        elif config.feat_extract_norm == "group" and index == 0:
            self.layer_norm = MaskedGroupNorm(channels, channels, eps=_GROUP_NORM_EPSILON)
        self.activation = activation(config.feat_extract_activation)

    def forward(self, hidden: Tensor, lengths: Tensor | None, filters: Tensor | None = None) -> Tensor:
        """[batch, channels, time] to the same layout.

        Args:
            lengths: [batch], counts the true inputs; None = all.
            filters: [batch, out, in, kernel], of each utterance's own in the place of the learned ones.
        """
        hidden = self.convolve(hidden, filters)
        if isinstance(self.layer_norm, MaskedGroupNorm):
            hidden = self.layer_norm(hidden, None if lengths is None else self.output_lengths(lengths))
        elif self.layer_norm is not None:
            hidden = self.layer_norm(hidden.mT).mT
        return self.activation(hidden)

    def convolve(self, hidden: Tensor, filters: Tensor | None) -> Tensor:
        """The convolution alone; one utterance after the other where filters differ, as grouped ones are slow."""
        if filters is None:
            return self.conv(hidden)
        stride, dilation = self.conv.stride, self.conv.dilation
        each = [
            F.conv1d(one[None], own, self.conv.bias, stride, dilation=dilation)
            for one, own in zip(hidden, filters, strict=True)
        ]
        return torch.cat(each)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        (kernel,), (stride,), (dilation,) = self.conv.kernel_size, self.conv.stride, self.conv.dilation
        return ((lengths - dilation * (kernel - 1) - 1) // stride + 1).clamp(min=0)


class MoonshineFirstLayer(ConvLayer):
    """First layer of Moonshine's stem: tanh is the activation, and one norm over channels and time comes behind it."""

    def __init__(self, config: HybridASRConfig, stride: int) -> None:
        super().__init__(config, 0, stride, dilation=1)
        self.layer_norm = MaskedGroupNorm(1, config.conv_dim[0], eps=_GROUP_NORM_EPSILON)

    def forward(self, hidden: Tensor, lengths: Tensor | None, filters: Tensor | None = None) -> Tensor:
        """As in `ConvLayer`."""
        norm = cast("MaskedGroupNorm", self.layer_norm)
        return norm(
            torch.tanh(self.convolve(hidden, filters)), None if lengths is None else self.output_lengths(lengths)
        )


class Wav2Vec2ConvEncoder(nn.Module):
    """Raw audio to frames through conv layers, wav2vec2's seven or Moonshine's three; see the module's docstring."""

    def __init__(self, config: HybridASRConfig) -> None:
        super().__init__()
        self.config = config
        self.output_size = config.conv_dim[-1]
        self.conv_layers = nn.ModuleList(
            MoonshineFirstLayer(config, stride)
            if config.encoder_type == MOONSHINE and index == 0
            else ConvLayer(config, index, stride, dilation)
            for index, (stride, dilation) in enumerate(conv_strides_and_dilations(config))
        )

    def forward(self, input_values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """input_values [batch, samples], true lengths [batch] in samples, to [batch, frames, conv_dim[-1]]."""
        return self.run_layers(input_values[:, None], lengths).mT

    def run_layers(
        self,
        hidden: Tensor,
        lengths: Tensor | None = None,
        filters: Mapping[int, Tensor] = NO_FILTERS,
        first: int = 0,
        end: int | None = None,
    ) -> Tensor:
        """The layers from number `first` up to, without it, `end` (None = all).

        Args:
            hidden: [batch, channels, time], of the layer before; [batch, 1, samples] for the first.
            lengths: [batch], true lengths in samples.
            filters: [batch, out, in, kernel] by layer: an utterance's own, where they are not the learned ones.
        """
        for index in range(first, len(self.conv_layers) if end is None else end):
            hidden = self.conv_layers[index](hidden, lengths if index == 0 else None, filters.get(index))
        return hidden

    def load_pretrained(self, name_or_path: str) -> None:
        """Take the conv weights of a wav2vec2, HuBERT or data2vec-audio checkpoint (hub id or folder).

        Raises:
            UserError: no such checkpoint, another kind of model, or conv layers of other sizes.
        """
        from transformers import AutoConfig, AutoModel

        try:
            source = AutoConfig.from_pretrained(name_or_path)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"pretrained encoder {name_or_path}: cannot be loaded ({reason}); give a hub id or a checkpoint folder"
            ) from None
        if source.model_type not in PRETRAINED_MODEL_TYPES:
            kinds = ", ".join(PRETRAINED_MODEL_TYPES)
            kind = source.model_type
            raise UserError(f"pretrained encoder {name_or_path}: is a {kind} model; it must be one of {kinds}")
        for field in _SHARED_FIELDS:
            theirs = getattr(source, field, "layer")  # data2vec-audio has no feat_extract_norm: always LayerNorm
            ours = getattr(self.config, field)
            theirs, ours = (list(size) if isinstance(size, (list, tuple)) else size for size in (theirs, ours))
            if theirs != ours:
                raise UserError(
                    f"pretrained encoder {name_or_path}: its {field} is {theirs}, the config says {ours}; "
                    f"set {field} in the config to {theirs}"
                )
        try:
            pretrained, report = AutoModel.from_pretrained(name_or_path, output_loading_info=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"pretrained encoder {name_or_path}: its weights cannot be loaded ({reason}); download it again"
            ) from None
        if any("feature_extractor." in name for name in report["missing_keys"]):
            raise UserError(f"pretrained encoder {name_or_path}: has no conv encoder weights; give a whole checkpoint")
        self.load_state_dict(pretrained.feature_extractor.state_dict())
