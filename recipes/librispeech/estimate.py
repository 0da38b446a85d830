"""Memory and throughput of a training of the full-size model, computed and not measured.

    python recipes/librispeech/estimate.py

Nothing is allocated and no GPU is needed: PyTorch's `FakeTensorMode` runs one step on shapes alone.
`FlopCounterMode` counts the floating-point operations of its matrix products and convolutions, and saved-tensor hooks
count the bytes that the forward pass keeps for the backward pass under bfloat16 autocast. The time follows from the
utilisation that is assumed below. Left out: optimiser steps, the exchange of gradients, the reading of audio,
LayerDrop, and attention's dropout. A CPU's kernels are counted, which keep the layer memory's Newton-Schulz in
float32 where a GPU's are in bfloat16: activations are an upper bound.
"""

import argparse
import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import one_line_errors
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

FULL_SIZE_CONFIG = Path(__file__).parents[2] / "configs" / "hybrid_asr_config.json"
GPU = "H100 SXM"
PEAK_FLOPS_PER_SECOND = 990e12  # dense bfloat16
UTILISATION = 0.4
MEAN_UTTERANCE_SECONDS = 12.3  # 961 h in 281 241 utterances
LONGEST_UTTERANCE_SECONDS = 15.6  # the default of --max_audio_samples
STATE_BYTES_PER_PARAMETER = 4 * 5  # float32: the weight, its gradient, AdamW's two moments, DDP's bucket
GIGABYTE = 1e9


@dataclass(frozen=True)
class StepCost:
    """A training step: floating-point operations, and bytes kept from the forward to the backward pass."""

    num_parameters: int
    forward_flops: int
    total_flops: int
    activation_bytes: int


def count_step(config: HybridASRConfig, batch_size: int, seconds: float, *, mixed_precision: bool = True) -> StepCost:
    """Count one step on a batch of equally long utterances."""
    config = copy.deepcopy(config)
    config.attention_dropout = 0.0  # with it, a CPU keeps all attention probabilities, and a GPU does not
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with FakeTensorMode():
        model = HybridASRForCTC(config).train()
        model.training = False  # of this module alone: no layer is dropped, but dropout is on
        input_values = torch.empty(batch_size, round(seconds * config.sampling_rate))
        autocast = torch.autocast("cpu", torch.bfloat16) if mixed_precision else nullcontext()
        with FlopCounterMode(display=False) as counter:
            with autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                features, frame_mask = model.encode(input_values)
                span_mask = torch.zeros_like(frame_mask)
                hidden = model.run_stack(features, frame_mask, span_mask)
                log_probs = model.classify(hidden, frame_mask).log_softmax(-1, dtype=torch.float32)
                loss = log_probs.sum() + model.masked_prediction_loss(hidden, features, span_mask).sum()
            forward_flops = counter.get_total_flops()
            loss.backward()
        for parameter in model.parameters():
            kept.pop(parameter.untyped_storage()._cdata, None)
    return StepCost(
        sum(parameter.numel() for parameter in model.parameters()),
        forward_flops,
        counter.get_total_flops(),
        sum(storage.nbytes() for storage in kept.values()),
    )


def with_checkpointing(config: HybridASRConfig, cost: StepCost, batch_size: int, seconds: float) -> StepCost:
    """The same step with --gradient_checkpointing: blocks keep their inputs alone, and run forward twice."""
    blocks = config.num_hidden_layers
    deeper = copy.deepcopy(config)
    deeper.num_hidden_layers = blocks + 1
    deeper_cost = count_step(deeper, batch_size, seconds)
    block_bytes = deeper_cost.activation_bytes - cost.activation_bytes
    block_flops = deeper_cost.forward_flops - cost.forward_flops
    num_frames = config.num_frames(round(seconds * config.sampling_rate))
    input_bytes = batch_size * num_frames * config.hidden_size * torch.float32.itemsize
    return StepCost(
        cost.num_parameters,
        cost.forward_flops,
        cost.total_flops + blocks * block_flops,
        cost.activation_bytes - (blocks - 1) * block_bytes + blocks * input_bytes,
    )


def format_estimate(config: HybridASRConfig, *, batch_size: int, num_gpus: int, hours: float, epochs: int) -> str:
    """The table of README.md."""
    utterance_seconds = (MEAN_UTTERANCE_SECONDS, LONGEST_UTTERANCE_SECONDS)
    plain = [count_step(config, batch_size, seconds) for seconds in utterance_seconds]
    checkpointed = [
        with_checkpointing(config, cost, batch_size, seconds)
        for cost, seconds in zip(plain, utterance_seconds, strict=True)
    ]
    columns = []
    for mean, longest in (plain, checkpointed):
        audio_seconds = batch_size * MEAN_UTTERANCE_SECONDS
        speed = UTILISATION * PEAK_FLOPS_PER_SECOND * audio_seconds / mean.total_flops
        state_bytes = STATE_BYTES_PER_PARAMETER * mean.num_parameters
        columns.append(
            {
                "parameters": f"{mean.num_parameters / 1e6:.1f} M",
                "operations a second of audio": f"{mean.total_flops / audio_seconds / 1e9:.0f} GFLOP",
                "weights, gradients, AdamW": f"{state_bytes / GIGABYTE:.1f} GB",
                f"activations, {batch_size} x {MEAN_UTTERANCE_SECONDS} s": f"{mean.activation_bytes / GIGABYTE:.1f} GB",
                f"all, {batch_size} x {LONGEST_UTTERANCE_SECONDS} s": (
                    f"{(state_bytes + longest.activation_bytes) / GIGABYTE:.1f} GB"
                ),
                "audio a second, 1 GPU": f"{speed:.0f} s",
                f"audio a second, {num_gpus} GPUs": f"{num_gpus * speed:.0f} s",
                f"{epochs} epochs of {hours:g} h, {num_gpus} GPUs": f"{epochs * hours / (num_gpus * speed):.1f} h",
            }
        )
    rows = [f"| {name} | {value} | {columns[1][name]} |" for name, value in columns[0].items()]
    assumption = f"{GPU} at {100 * UTILISATION:.0f} % of {PEAK_FLOPS_PER_SECOND / 1e12:.0f} TFLOP/s, bfloat16"
    return "\n".join([f"| computed: {assumption} | | --gradient_checkpointing |", "|---|---|---|", *rows])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_path", type=Path, default=FULL_SIZE_CONFIG)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--num_gpus", type=int, default=8)
    parser.add_argument("--hours", type=float, default=961.0)
    parser.add_argument("--epochs", type=int, default=25)
    arguments = parser.parse_args(argv)
    with one_line_errors():
        config = HybridASRConfig.from_file(arguments.config_path)
        options = {name: getattr(arguments, name) for name in ("batch_size", "num_gpus", "hours", "epochs")}
        print(format_estimate(config, **options))


if __name__ == "__main__":
    main()
