"""One layer of the full-size model against other token mixers of its width, on short and long audio.

    python benchmarks/layer_speed.py [--quick] [--write] [--device cuda]

The layer memory, the same by its oracle (automatic differentiation), the windowed attention beside it, and attention
over the whole recording; projections are counted in. Forward passes are without gradients; backward passes go to the
input and all weights. The oracle holds everything at once and is left out where that would take tens of gigabytes. On a
GPU, time is that of the clock until it has done all, after a call that does not count.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import measuring
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.evaluation.summary import markdown_table
from lact_asr_model.hybrid_network import LactBlock
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.fast_weights import naive
from lact_asr_model.ops.fast_weights.closed_form import FastWeights
from lact_asr_model.recognition.run_description import choose_device

SECONDS, QUICK_SECONDS = (5, 15, 60, 300), (1, 5)
LONGEST_OF_ORACLE_SECONDS = 60
MEMORY, ORACLE, WINDOW, FULL = "layer memory", "layer memory, oracle", "windowed attention", "full attention"


def naive_update(*tensors: Any, muon: bool, schedule: str, **others: object) -> FastWeights:
    return naive.update_fast_weights(*tensors, muon=muon, schedule=schedule)


def full_attention(queries: Tensor, keys: Tensor, values: Tensor, *others: object) -> Tensor:
    return F.scaled_dot_product_attention(queries, keys, values)


CHANGES: dict[str, Callable[[], AbstractContextManager]] = {
    MEMORY: nullcontext,
    ORACLE: lambda: patch("lact_asr_model.lact_layer.update_fast_weights", naive_update),
    WINDOW: nullcontext,
    FULL: lambda: patch("lact_asr_model.lact_layer.windowed_attention", full_attention),
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = measuring.make_parser(__doc__)
    parser.add_argument("--device", default="cpu", help="where the layer runs, such as cuda (default: cpu)")
    measuring.run(parser, _measure, argv)


def _measure(arguments: argparse.Namespace) -> str:
    torch.set_num_threads(arguments.num_threads)
    torch.manual_seed(0)
    device = choose_device(arguments.device)
    config = HybridASRConfig(num_hidden_layers=1)
    block = cast("LactBlock", HybridASRForCTC(config).eval().to(device).layers[0])
    modules = {MEMORY: block.memory, ORACLE: block.memory, WINDOW: block.attention, FULL: block.attention}
    rows = [["seconds of audio", "layer", "forward, s", "/ full attention", "with backward, s", "/ full attention"]]
    for audio_seconds in QUICK_SECONDS if arguments.quick else SECONDS:
        num_frames = int(config.num_frames(audio_seconds * config.sampling_rate))
        hidden = torch.randn(1, num_frames, config.hidden_size).to(device)
        names = [name for name in modules if name != ORACLE or audio_seconds <= LONGEST_OF_ORACLE_SECONDS]
        columns = []
        for call in (_forward, _forward_and_backward):
            calls = {name: partial(call, modules[name], name, hidden) for name in names}
            columns.append(_side_by_side(calls, device, num_rounds=1 if arguments.quick else 5))
        for name in modules:
            cells = [str(audio_seconds), name]
            for seconds in columns:
                cells += (
                    [f"{seconds[name]:.3f}", f"{seconds[name] / seconds[FULL]:.2f}"] if name in seconds else ["", ""]
                )
            rows.append(cells)
    gpu = f"\n\nOn {torch.cuda.get_device_name(device)}." if device.type == "cuda" else ""
    return markdown_table(rows) + gpu


def _side_by_side(calls: Mapping[str, Callable[[], object]], device: torch.device, num_rounds: int) -> dict[str, float]:
    if device.type != "cuda":
        return measuring.side_by_side(calls, num_rounds)

    def clock_seconds() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    for call in calls.values():
        call()
    with patch.object(measuring, "clock_seconds", clock_seconds):
        return measuring.side_by_side(calls, num_rounds)


def _forward(module: nn.Module, name: str, hidden: Tensor) -> Tensor:
    with torch.no_grad(), CHANGES[name]():
        return module(hidden, _all_real(hidden))


def _forward_and_backward(module: nn.Module, name: str, hidden: Tensor) -> None:
    hidden = hidden.clone().requires_grad_()
    with CHANGES[name]():
        output = module(hidden, _all_real(hidden))
    torch.autograd.grad(output.sum(), [hidden, *module.parameters()])


def _all_real(hidden: Tensor) -> Tensor:
    return torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)


if __name__ == "__main__":
    main()
