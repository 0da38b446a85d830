"""Memory and throughput of a training of the full-size model, computed and not measured.

    python recipes/librispeech/estimate.py

Nothing is allocated and no GPU is needed: PyTorch's `FakeTensorMode` runs one step on shapes alone, under bfloat16
autocast. `FlopCounterMode` counts the floating-point operations of its matrix products and convolutions; the time
follows from the utilisation that is assumed below. Memory is what training itself counts and chooses by. Left out of
the time: optimiser steps, the exchange of gradients, the reading of audio, LayerDrop, and attention's dropout.
"""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import one_line_errors
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.text import make_processor
from lact_asr_model.training.micro_batches import GIGABYTE, OVERHEADS, Memory, choose_micro_batching
from lact_asr_model.training.step_memory import count_working_bytes

FULL_SIZE_CONFIG = Path(__file__).parents[2] / "configs" / "hybrid_asr_config.json"
GPU = "H100 SXM"
PEAK_FLOPS_PER_SECOND = 990e12  # dense bfloat16
UTILISATION = 0.4
MEAN_UTTERANCE_SECONDS = 12.3  # 961 h in 281 241 utterances
LONGEST_UTTERANCE_SECONDS = 15.6  # the default of --max_audio_samples
STATE_BYTES_PER_PARAMETER = 4 * 4  # float32: the weight, its gradient, AdamW's two moments
GPU_GIGABYTES = (16, 24, 40, 80)


@dataclass(frozen=True)
class StepCost:
    """The floating-point operations of a training step."""

    num_parameters: int
    forward_flops: int
    total_flops: int


def count_step(config: HybridASRConfig, batch_size: int, seconds: float) -> StepCost:
    """Count one step on a batch of equally long utterances."""
    config = copy.deepcopy(config)
    config.attention_dropout = 0.0  # with it, a CPU keeps all attention probabilities, and a GPU does not
    with FakeTensorMode():
        model = HybridASRForCTC(config).train()
        model.training = False  # of this module alone: no layer is dropped, but dropout is on
        input_values = torch.empty(batch_size, round(seconds * config.sampling_rate))
        with FlopCounterMode(display=False) as counter:
            with torch.autocast("cpu", torch.bfloat16):
                features, frame_mask = model.encode(input_values)
                span_mask = torch.zeros_like(frame_mask)
                hidden = model.run_stack(features, frame_mask, span_mask)
                log_probs = model.classify(hidden, frame_mask).log_softmax(-1, dtype=torch.float32)
                loss = log_probs.sum() + model.masked_prediction_loss(hidden, features, span_mask).sum()
            forward_flops = counter.get_total_flops()
            loss.backward()
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return StepCost(num_parameters, forward_flops, counter.get_total_flops())


def with_checkpointing(config: HybridASRConfig, cost: StepCost, batch_size: int, seconds: float) -> StepCost:
    """The same step with activations recomputed: blocks run forward twice."""
    deeper = copy.deepcopy(config)
    deeper.num_hidden_layers += 1
    block_flops = count_step(deeper, batch_size, seconds).forward_flops - cost.forward_flops
    return replace(cost, total_flops=cost.total_flops + config.num_hidden_layers * block_flops)


def format_memory(config: HybridASRConfig, batch_size: int) -> str:
    """How training fits the longest utterances into GPUs of several sizes, as a table."""
    with torch.device("meta"):
        model = HybridASRForCTC(config)
    acoustic_model = HybridAcousticModel(model, make_processor({"<pad>": 0, "|": 1}, config.sampling_rate))
    held = STATE_BYTES_PER_PARAMETER * sum(parameter.numel() for parameter in model.parameters())
    kinds = {"plain": None, "--enable_ttt": "first_order"}

    @cache
    def count(ttt_gradient: str | None, seconds: float, recompute: bool) -> float:
        return OVERHEADS["cuda"] * count_working_bytes(
            acoustic_model,
            seconds,
            recompute=recompute,
            ttt_gradient=ttt_gradient,
            autocast_dtype=torch.bfloat16,
            is_gpu=True,
        )

    def cell(memory: Memory, ttt_gradient: str | None) -> str:
        plan = choose_micro_batching(partial(count, ttt_gradient), memory, LONGEST_UTTERANCE_SECONDS)
        at_once = plan.at_once(batch_size, LONGEST_UTTERANCE_SECONDS)
        peak = held + at_once * plan.needed_bytes(LONGEST_UTTERANCE_SECONDS)
        kept = "recomputed" if plan.recompute else "kept"
        return f"{at_once} at a time, {kept}: {peak / GIGABYTE:.1f} GB"

    rows = [
        f"| computed: {batch_size} x {LONGEST_UTTERANCE_SECONDS} s, bfloat16 | {' | '.join(kinds)} |",
        "|---|---|---|",
    ]
    for recompute in (False, True):
        whole = [
            f"{(held + batch_size * count(kind, LONGEST_UTTERANCE_SECONDS, recompute)) / GIGABYTE:.1f} GB"
            for kind in kinds.values()
        ]
        rows.append(f"| the batch whole, activations {'recomputed' if recompute else 'kept'} | {' | '.join(whole)} |")
    for gigabytes in GPU_GIGABYTES:
        cells = [cell(Memory(held, gigabytes * GIGABYTE), kind) for kind in kinds.values()]
        rows.append(f"| what training chooses on {gigabytes} GB | {' | '.join(cells)} |")
    return "\n".join(rows)


def format_estimate(config: HybridASRConfig, *, batch_size: int, num_gpus: int, hours: float, epochs: int) -> str:
    """Operations and time, as a table."""
    plain = count_step(config, batch_size, MEAN_UTTERANCE_SECONDS)
    columns = []
    for cost in (plain, with_checkpointing(config, plain, batch_size, MEAN_UTTERANCE_SECONDS)):
        audio_seconds = batch_size * MEAN_UTTERANCE_SECONDS
        speed = UTILISATION * PEAK_FLOPS_PER_SECOND * audio_seconds / cost.total_flops
        columns.append(
            {
                "parameters": f"{cost.num_parameters / 1e6:.1f} M",
                "operations a second of audio": f"{cost.total_flops / audio_seconds / 1e9:.0f} GFLOP",
                "audio a second, 1 GPU": f"{speed:.0f} s",
                f"audio a second, {num_gpus} GPUs": f"{num_gpus * speed:.0f} s",
                f"{epochs} epochs of {hours:g} h, {num_gpus} GPUs": f"{epochs * hours / (num_gpus * speed):.1f} h",
            }
        )
    rows = [f"| {name} | {value} | {columns[1][name]} |" for name, value in columns[0].items()]
    assumption = f"{GPU} at {100 * UTILISATION:.0f} % of {PEAK_FLOPS_PER_SECOND / 1e12:.0f} TFLOP/s, bfloat16"
    return "\n".join([f"| computed: {assumption} | activations kept | recomputed |", "|---|---|---|", *rows])


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
        print(format_estimate(config, **options), format_memory(config, arguments.batch_size), sep="\n\n")


if __name__ == "__main__":
    main()
