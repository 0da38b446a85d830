"""What a training starts from: configuration, vocabulary, model and processes."""

from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from transformers import Wav2Vec2Processor

from lact_asr_model.adaptation.options import options_from_config
from lact_asr_model.checkpoint_io import load_checkpoint
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.precision import cpu_multiplies_in_bfloat16
from lact_asr_model.text import build_vocabulary, make_processor
from lact_asr_model.training.arguments import TrainingArguments

NO_ENCODER = "none"


def build_model(
    arguments: TrainingArguments, transcripts: Iterable[str], *, is_resumed: bool = False
) -> tuple[HybridASRForCTC, Wav2Vec2Processor]:
    """A model with random or given weights, for the characters of `transcripts` or those of `--init_from`.

    `is_resumed`: the weights come from a training state later on, and the pretrained encoder is not needed again.

    Raises:
        UserError: the configuration, the checkpoint and the options do not fit together.
    """
    base = processor = None
    if arguments.init_from is not None:
        base, processor = load_checkpoint(arguments.init_from)
    if arguments.config_path is not None:
        config = HybridASRConfig.from_file(arguments.config_path)
    else:
        config = HybridASRConfig() if base is None else base.config
    if processor is None:
        processor = make_processor(build_vocabulary(transcripts), config.sampling_rate)
    config.vocab_size = len(processor.tokenizer)
    if arguments.enable_ttt:
        _enable_ttt(config)

    torch.manual_seed(arguments.seed)
    model = HybridASRForCTC(config)
    if base is not None:
        try:
            _start_from(model, base)
        except RuntimeError:
            raise UserError(
                f"--init_from {arguments.init_from}: its weights do not fit {arguments.config_path}; "
                "leave out --config_path"
            ) from None
    encoder_name = arguments.pretrained_encoder
    if encoder_name is None and base is None and config.use_wav2vec2_encoder:
        encoder_name = config.wav2vec2_model_name
    if encoder_name is not None and encoder_name != NO_ENCODER and not is_resumed:
        model.load_pretrained_encoder(encoder_name)
    if arguments.enable_ttt:
        model.learn_step_scales(config.ttt_parameters)
    return model, processor


def recompute_activations(model: HybridASRForCTC, is_on: bool = True) -> None:
    """Let the blocks keep their inputs alone and run forward twice, or no longer."""
    # the second names are those before transformers 5.20, and deprecated since
    enable: Any = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    disable: Any = getattr(model, "activation_checkpointing_disable", model.gradient_checkpointing_disable)
    if is_on:
        enable({"use_reentrant": False})
    else:
        disable()


def _start_from(model: HybridASRForCTC, base: HybridASRForCTC) -> None:
    """Take the weights of `base`; an intermediate head that it does not have starts as a copy of the last one."""
    weights = {name: tensor for name, tensor in base.state_dict().items() if "intermediate_heads." not in name}
    last = {"norm": base.final_norm, "output": base.lm_head}
    heads = dict(base.intermediate_heads.items())
    for block in model.intermediate_heads:
        for part, module in heads[block].named_children() if block in heads else last.items():
            for name, tensor in module.state_dict().items():
                weights[f"intermediate_heads.{block}.{part}.{name}"] = tensor
    model.load_state_dict(weights)


def make_accelerator(arguments: TrainingArguments, config: HybridASRConfig) -> Accelerator:
    """Processes and devices: CUDA where there is one, else CPU; mixed precision where the device multiplies in it."""
    has_gpu = torch.cuda.is_available()
    precision = "no"
    if arguments.mixed_precision and has_gpu:
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    elif arguments.mixed_precision and cpu_multiplies_in_bfloat16():
        precision = "bf16"
    if has_gpu:
        torch.set_float32_matmul_precision("high")
    some_are_unused = config.layerdrop > 0 or (arguments.enable_ttt and arguments.ttt_share < 1)  # layers; step scales
    unused = DistributedDataParallelKwargs(find_unused_parameters=some_are_unused)
    return Accelerator(cpu=not has_gpu, mixed_precision=precision, kwargs_handlers=[unused])


def _enable_ttt(config: HybridASRConfig) -> None:
    if config.ttt_loss_type == "masked_prediction" and not config.masked_prediction_weight > 0:
        raise UserError(
            f"--enable_ttt: adaptation by masked prediction learns nothing with masked_prediction_weight "
            f"{config.masked_prediction_weight}; set it above 0 in the configuration (0.1 by default)"
        )
    options = options_from_config(config)
    if options.is_taught:
        raise UserError(
            f"--enable_ttt: trains without a language model; ttt_loss_type {config.ttt_loss_type} needs one, "
            "use entropy_mcc"
        )
    groups = set(options.groups)
    if not groups <= {"fast_weights", "front_end"}:
        raise UserError(
            f"--enable_ttt: trains through the adaptation of fast_weights and front_end only, not of ttt_parameters "
            f"{config.ttt_parameters!r}; change that in the configuration"
        )
    config.enable_ttt = True
