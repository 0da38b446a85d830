"""Where the time of a training step goes: forward, backward and optimiser, in float32 and in bfloat16.

    python benchmarks/training_step.py [--config_path FILE] [--batch_size N] [--seconds S] [--quick] [--write]

The full-size model by default, with random weights, on ten seconds of noise, which takes about 10 GB. bfloat16 is that
of `--mixed_precision`, which is faster only on a processor that has instructions for it.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import measuring
import torch
from torch import Tensor, nn

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.evaluation.summary import markdown_table
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.training.arguments import OPTIMIZERS
from lact_asr_model.training.optimizers import make_optimizers

Result = TypeVar("Result")

CONFIGS_DIR = Path(__file__).parents[1] / "configs"
QUICK_CONFIG = CONFIGS_DIR / "small_asr_config.json"
PARTS = ("forward", "backward", "optimiser")
LETTERS_PER_SECOND = 14


def main(argv: Sequence[str] | None = None) -> None:
    parser = measuring.make_parser(__doc__)
    parser.add_argument("--config_path", type=Path, default=CONFIGS_DIR / "hybrid_asr_config.json")
    parser.add_argument("--batch_size", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--seconds", type=int, default=10, metavar="S", help="of every utterance (default: 10)")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw", help="default: adamw")
    measuring.run(parser, _measure, argv)


def _measure(arguments: argparse.Namespace) -> str:
    if arguments.quick:
        arguments.config_path, arguments.batch_size, arguments.seconds = QUICK_CONFIG, 2, 2
    torch.set_num_threads(arguments.num_threads)
    torch.manual_seed(0)
    model = HybridASRForCTC(HybridASRConfig.from_json_file(arguments.config_path)).train()
    optimizers = make_optimizers(model, name=arguments.optimizer, peak_lr=1e-5, encoder_lr_scale=1.0, weight_decay=0.0)
    batch = {
        "input_values": torch.randn(arguments.batch_size, arguments.seconds * SAMPLING_RATE),
        "labels": torch.randint(
            1, model.config.vocab_size, (arguments.batch_size, arguments.seconds * LETTERS_PER_SECOND)
        ),
    }
    rows = [["arithmetic", *(f"{part}, s" for part in PARTS), "audio s / s"]]
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        steps = [_step(model, optimizers, batch, dtype) for _ in range(1 if arguments.quick else 4)]
        steps = steps[1:] or steps  # the first makes the optimiser's state
        seconds = [median(of_part) for of_part in zip(*steps, strict=True)]
        speed = arguments.batch_size * arguments.seconds / sum(seconds)
        rows.append([name, *(f"{each:.2f}" for each in seconds), f"{speed:.2f}"])
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    heading = f"{size:.0f} M parameters; {arguments.batch_size} × {arguments.seconds} s; {arguments.optimizer}"
    return f"{heading}:\n\n{markdown_table(rows)}"


def _step(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    batch: dict[str, Tensor],
    dtype: torch.dtype | None,
) -> list[float]:
    """Seconds of each of `PARTS`."""
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        forward_seconds, loss = _timed(lambda: model(**batch).loss)
    backward_seconds, _ = _timed(loss.backward)

    def update() -> None:
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return [forward_seconds, backward_seconds, _timed(update)[0]]


def _timed(call: Callable[[], Result]) -> tuple[float, Result]:
    start_seconds = measuring.clock_seconds()
    result = call()
    return measuring.clock_seconds() - start_seconds, result


if __name__ == "__main__":
    main()
