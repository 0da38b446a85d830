"""A start from Moonshine: its encoder becomes the conv encoder, and the attention and feed-forward of the LaCT blocks.

With `encoder_type` "moonshine" the conv encoder is built as Moonshine's stem. Moonshine's transformer layers have
the same pre-norm structure with rotary positions as the blocks; a block's layer memory is extra, and its output
projection starts at zero. So the model starts as Moonshine's encoder to the last digit, with a random head behind it.

Source: Jeffries et al. 2024, "Moonshine: Speech Recognition for Live Transcription and Voice Commands",
arXiv:2410.15608. The English models are under the MIT licence.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.data.sources import read_utterances
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.hybrid_network import LactBlock
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.text import build_vocabulary, make_processor
from lact_asr_model.wav2vec2_encoder import ConvLayer, MaskedGroupNorm, Wav2Vec2ConvEncoder

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
        model = AutoModel.from_pretrained(name_or_path, dtype=torch.float32) if model_type == "moonshine" else None
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"moonshine {name_or_path}: cannot be loaded ({reason}); give a hub id or a checkpoint folder"
        ) from None
    if model is None:
        raise UserError(f"moonshine {name_or_path}: is a {model_type} model; give a Moonshine checkpoint")
    return cast("MoonshineEncoder", model.encoder.requires_grad_(False))


@torch.no_grad()
def copy_encoder(encoder: "MoonshineEncoder", model: HybridASRForCTC) -> None:
    """Make `model` up to its head compute what Moonshine's encoder computes, where a window holds the whole utterance.

    Raises:
        UserError: the configuration of `model` has other sizes.
    """
    _check_sizes(encoder, model.config)
    layers = cast("Wav2Vec2ConvEncoder", model.encoder).conv_layers
    for layer, theirs in zip(layers, (encoder.conv1, encoder.conv2, encoder.conv3), strict=True):
        bias = torch.zeros(theirs.out_channels) if theirs.bias is None else theirs.bias
        cast("ConvLayer", layer).conv.load_state_dict({"weight": theirs.weight, "bias": bias})
    first = cast("ConvLayer", layers[0])
    first.conv.weight.mul_(SPEECH_AMPLITUDE)
    cast("MaskedGroupNorm", first.layer_norm).load_state_dict(encoder.groupnorm.state_dict())
    for source, block in zip(encoder.layers, model.layers, strict=True):
        _copy_layer(cast("MoonshineEncoderLayer", source), cast("LactBlock", block), model.config.rotary_size)
    model.final_norm.weight.copy_(encoder.layer_norm.weight)
    model.final_norm.bias.zero_()


def _check_sizes(encoder: "MoonshineEncoder", config: HybridASRConfig) -> None:
    theirs = encoder.config
    convolutions = (encoder.conv1, encoder.conv2, encoder.conv3)
    pairs = {
        "hidden_size": theirs.hidden_size,
        "intermediate_size": theirs.intermediate_size,
        "num_hidden_layers": theirs.encoder_num_hidden_layers,
        "num_attn_heads": theirs.encoder_num_attention_heads,
        "hidden_act": theirs.encoder_hidden_act,
        "rope_theta": theirs.rope_parameters["rope_theta"],
        "rotary_size": 2 * len(encoder.rotary_emb.inv_freq),
        "use_wav2vec2_encoder": True,
        "encoder_type": "moonshine",
        "feat_extract_activation": "gelu",
        "conv_bias": True,
        "conv_dim": [convolution.out_channels for convolution in convolutions],
        "conv_kernel": [convolution.kernel_size[0] for convolution in convolutions],
        "conv_stride": [convolution.stride[0] for convolution in convolutions],
        "encoder_target_ds_factor": convolutions[1].stride[0] * convolutions[2].stride[0],
    }
    for name, value in pairs.items():
        ours = getattr(config, name)
        if (list(ours) if isinstance(ours, tuple) else ours) != value:
            raise UserError(f"moonshine: its {name} is {value}, the config says {ours}; change that")


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


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: a checkpoint for `fit_head --init_from`, with a random head for the transcripts' characters."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None, allow_abbrev=False)
    parser.add_argument("--config_path", type=Path, required=True)
    parser.add_argument("--moonshine", required=True, help="Moonshine checkpoint, a hub id or a folder")
    parser.add_argument("--data_dir", type=Path, help="folder with the LibriSpeech subsets or manifests")
    parser.add_argument("--train_subset", required=True, help="sources joined by '+'; they give the vocabulary")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    with one_line_errors():
        _start(parser.parse_args(argv))


def _start(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    encoder = load_moonshine_encoder(arguments.moonshine)
    utterances = read_utterances(arguments.train_subset, arguments.data_dir)
    processor = make_processor(build_vocabulary(utterance.text for utterance in utterances if utterance.text))
    config = HybridASRConfig.from_file(arguments.config_path)
    config.vocab_size = len(processor.tokenizer)
    model = HybridASRForCTC(config)
    copy_encoder(encoder, model)
    save_pretrained_folder(arguments.output_dir, model, processor)


if __name__ == "__main__":
    main()
