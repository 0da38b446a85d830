"""A start from Moonshine: its encoder's transformer layers become the attention and feed-forward of the LaCT blocks.

Moonshine's encoder has the same pre-norm layers with rotary positions; a block's layer memory is extra, and its output
projection starts at zero, so that the stack begins as Moonshine's. Its conv stem is of another kind (three wide
convolutions), which `pretrain_encoder` teaches the wav2vec2 conv encoder to imitate.

Source: Jeffries et al. 2024, "Moonshine: Speech Recognition for Live Transcription and Voice Commands",
arXiv:2410.15608. The English models are under the MIT licence.
"""

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC, LactBlock
from lact_asr_model.ops.lengths import length_mask

if TYPE_CHECKING:
    from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder, MoonshineEncoderLayer

SPEECH_AMPLITUDE = 0.06  # root mean square of recordings as Moonshine knows them; ours are scaled to 1


def load_moonshine_encoder(name_or_path: str) -> "MoonshineEncoder":
    """The encoder of a Moonshine checkpoint (hub id or folder), in evaluation mode and without gradients.

    Raises:
        UserError: no such checkpoint, or another kind of model.
    """
    try:
        model_type = AutoConfig.from_pretrained(name_or_path).model_type
        if model_type != "moonshine":
            raise UserError(f"moonshine {name_or_path}: is a {model_type} model; give a Moonshine checkpoint")
        encoder = AutoModel.from_pretrained(name_or_path, dtype=torch.float32).encoder
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"moonshine {name_or_path}: cannot be loaded ({reason}); give a hub id or a checkpoint folder"
        ) from None
    return cast("MoonshineEncoder", encoder.requires_grad_(False))


class MoonshineStem(nn.Module):
    """Moonshine's conv stem with padding left out of its norm: what the LaCT blocks are used to being fed."""

    def __init__(self, encoder: "MoonshineEncoder", config: HybridASRConfig) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = encoder.conv1, encoder.conv2, encoder.conv3
        self.groupnorm = encoder.groupnorm
        self.config = config

    def forward(self, input_values: Tensor, lengths: Tensor) -> Tensor:
        """input_values [batch, samples], true lengths [batch] in samples, to [batch, frames, hidden]."""
        (kernel,), (stride,) = self.conv1.kernel_size, self.conv1.stride
        hidden = torch.tanh(self.conv1(SPEECH_AMPLITUDE * input_values[:, None]))
        mask = length_mask((lengths - kernel) // stride + 1, hidden.shape[-1])[:, None]
        hidden = hidden.masked_fill(~mask, 0)
        count = mask.sum((1, 2), keepdim=True) * hidden.shape[1]
        mean = hidden.sum((1, 2), keepdim=True) / count
        variance = (hidden - mean).masked_fill(~mask, 0).square().sum((1, 2), keepdim=True) / count
        hidden = (hidden - mean) * torch.rsqrt(variance + self.groupnorm.eps)
        hidden = hidden * self.groupnorm.weight[:, None] + self.groupnorm.bias[:, None]
        hidden = F.gelu(self.conv3(F.gelu(self.conv2(hidden))))
        return hidden.mT[:, : self.config.num_frames(input_values.shape[1])]


@torch.no_grad()
def copy_stack(encoder: "MoonshineEncoder", model: HybridASRForCTC) -> None:
    """Make the stack of `model` compute what Moonshine's computes, as long as a window holds the whole utterance.

    Raises:
        UserError: the configuration of `model` has other sizes.
    """
    _check_sizes(encoder, model.config)
    for source, block in zip(encoder.layers, model.layers, strict=True):
        _copy_layer(cast("MoonshineEncoderLayer", source), cast("LactBlock", block), model.config.rotary_size)
    model.final_norm.weight.copy_(encoder.layer_norm.weight)
    model.final_norm.bias.zero_()


def _check_sizes(encoder: "MoonshineEncoder", config: HybridASRConfig) -> None:
    theirs = encoder.config
    stem_period = encoder.conv1.stride[0] * encoder.conv2.stride[0] * encoder.conv3.stride[0]
    pairs = {
        "hidden_size": theirs.hidden_size,
        "intermediate_size": theirs.intermediate_size,
        "num_hidden_layers": theirs.encoder_num_hidden_layers,
        "num_attn_heads": theirs.encoder_num_attention_heads,
        "hidden_act": theirs.encoder_hidden_act,
        "rope_theta": theirs.rope_parameters["rope_theta"],
        "rotary_size": 2 * len(encoder.rotary_emb.inv_freq),
        "samples_per_frame": stem_period,
    }
    for name, value in pairs.items():
        if getattr(config, name) != value:
            raise UserError(f"moonshine: its {name} is {value}, the config says {getattr(config, name)}; change that")


def _copy_layer(source: "MoonshineEncoderLayer", block: LactBlock, rotary_size: int) -> None:
    heads = block.attention.num_heads
    for name in ("q_proj", "k_proj", "v_proj"):
        ours, theirs = getattr(block.attention, name), getattr(source.self_attn, name)
        weight = theirs.weight
        if name != "v_proj":
            weight = _pairs_to_halves(weight.unflatten(0, (heads, -1)), rotary_size).flatten(0, 1)
        ours.weight.copy_(weight)
        ours.bias.zero_()
    block.attention.out_proj.weight.copy_(source.self_attn.o_proj.weight)
    block.attention.out_proj.bias.zero_()
    block.attention_norm.weight.copy_(source.input_layernorm.weight)
    block.attention_norm.bias.zero_()
    block.memory.out_proj.weight.zero_()
    block.feed_forward_norm.weight.copy_(source.post_attention_layernorm.weight)
    block.feed_forward_norm.bias.zero_()
    for layer, theirs in ((block.feed_forward[0], source.mlp.fc1), (block.feed_forward[2], source.mlp.fc2)):
        layer.load_state_dict(theirs.state_dict())


def _pairs_to_halves(weight: Tensor, rotary_size: int) -> Tensor:
    """[heads, size, hidden]: Moonshine turns neighbouring dimensions, we turn those half the rotary size apart."""
    turned = weight[:, :rotary_size]
    return torch.cat([turned[:, 0::2], turned[:, 1::2], weight[:, rotary_size:]], dim=1)
