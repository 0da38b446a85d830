"""Whole models beside wav2vec2 base: time of a forward pass, operations counted, and how many are done in a second.

    python benchmarks/model_speed.py [--quick] [--write]

The full-size model and `Wav2Vec2ForCTC` base have random weights, which cost what trained ones do. PyTorch counts the
operations of products, convolutions and attention: two for a multiplication with its addition.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import measuring
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.evaluation.summary import markdown_table
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

SECONDS, QUICK_SECONDS = (5, 15, 60), (1,)
MODELS: dict[str, Callable[[], Any]] = {
    "full size": lambda: HybridASRForCTC(HybridASRConfig()),
    "bundled": lambda: load().model,
    "Wav2Vec2ForCTC base": lambda: Wav2Vec2ForCTC(Wav2Vec2Config()),
}


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(measuring.make_parser(__doc__), _measure, argv)


def _measure(arguments: argparse.Namespace) -> str:
    torch.set_num_threads(arguments.num_threads)
    torch.manual_seed(0)
    models = {name: make().eval() for name, make in MODELS.items()}
    rows = [["seconds of audio", "model", "parameters, M", "GFLOP", "seconds", "GFLOP/s", "audio s / s"]]
    for audio_seconds in QUICK_SECONDS if arguments.quick else SECONDS:
        samples = torch.randn(1, audio_seconds * SAMPLING_RATE)
        operations = {name: _count_operations(model, samples) for name, model in models.items()}
        calls = {name: partial(_recognize, model, samples) for name, model in models.items()}
        taken_seconds = measuring.side_by_side(calls, num_rounds=1 if arguments.quick else 5)
        for name, seconds in taken_seconds.items():
            num_parameters = sum(parameter.numel() for parameter in models[name].parameters())
            giga = operations[name] / 1e9
            cells = [f"{num_parameters / 1e6:.0f}", f"{giga:.0f}", f"{seconds:.2f}", f"{giga / seconds:.0f}"]
            rows.append([str(audio_seconds), name, *cells, f"{audio_seconds / seconds:.1f}"])
    return markdown_table(rows)


def _recognize(model: nn.Module, samples: Tensor) -> None:
    with torch.no_grad():
        model(samples)


def _count_operations(model: nn.Module, samples: Tensor) -> int:
    """Attention is counted by its products, as the counter does not know the fused kernel of a CPU."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        _recognize(model, samples)
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
