"""Newton-Schulz: how orthogonal each schedule makes the layer memory's updates, and what its own backward pass saves.

    python benchmarks/newton_schulz.py [--quick] [--write]

The first table is the ground for the default schedule. Matrices are sums of outer products over the frames of an
utterance, as the memory makes them, with frames of 0.5, 5, 10 and 60 s together; at 2.4 s there are as many frames as a
head is wide, and such sums are nearly singular. Fewer iterations are the first ones of a schedule; "one triple" is that
of Jordan et al. 2024, the same in every iteration. Singular values (σ) that are zero are left out.

The second is time with gradients, with the backward pass that Newton-Schulz has and with that of automatic
differentiation in its place, in turn: alone, in the gradient of a block of the full-size model with respect to its fast
weights, for 5 s of audio, and in an exact step of the bundled model.

The third is time without gradients, of products in float32 and in bfloat16, which fast steps take, with the Frobenius
norm of the difference over that of the result.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import cast
from unittest.mock import patch

import measuring
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.adaptation.procedure import adapt
from lact_asr_model.audio import load_audio
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.evaluation.summary import markdown_table
from lact_asr_model.hybrid_network import LactBlock
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops import newton_schulz as module
from lact_asr_model.ops.newton_schulz import SCHEDULES, newton_schulz

HEAD_SIZE, HIDDEN_SIZE, NUM_MATRICES = 192, 1536, 4
FRAMES_PER_SECOND = 80
PLENTY_OR_FEW_SECONDS, AS_MANY_SECONDS = (0.5, 5, 10, 60), (2.4,)
ONE_TRIPLE = (3.4445, -4.7750, 2.0315)
ITERATIONS = (3, 4, 5)
RECORDING = RECORDINGS_DIR / "1673-143397-0008.mp3"


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(measuring.make_parser(__doc__), _measure, argv)


def _measure(arguments: argparse.Namespace) -> str:
    torch.set_num_threads(arguments.num_threads)
    torch.manual_seed(0)
    num_rounds = 1 if arguments.quick else 9
    return "\n\n".join([_orthogonality(), _backward_pass(num_rounds), _arithmetic(num_rounds)])


def _orthogonality() -> str:
    rows = [["schedule", "iterations", "max of abs(σ − 1)", "mean", "at 2.4 s: max", "mean"]]
    groups = [
        [(_update(seconds), round(seconds * FRAMES_PER_SECOND)) for seconds in group]
        for group in (PLENTY_OR_FEW_SECONDS, AS_MANY_SECONDS)
    ]
    for name, triples in {**SCHEDULES, "one triple": (ONE_TRIPLE,) * max(ITERATIONS)}.items():
        for num_iterations in ITERATIONS:
            cells = [name, str(num_iterations)]
            with patch.dict(SCHEDULES, {name: triples[:num_iterations]}):
                for updates in groups:
                    distances = torch.cat([_distances(newton_schulz(each, name), rank) for each, rank in updates])
                    cells += [f"{distances.max():.3f}", f"{distances.mean():.3f}"]
            rows.append(cells)
    return markdown_table(rows)


def _update(seconds: float) -> Tensor:
    frames = round(seconds * FRAMES_PER_SECOND)
    keys = torch.nn.functional.normalize(torch.randn(NUM_MATRICES, frames, HEAD_SIZE), dim=-1)
    return keys.mT @ torch.randn(NUM_MATRICES, frames, HIDDEN_SIZE)


def _distances(matrices: Tensor, rank: int) -> Tensor:
    """Of the singular values from 1."""
    return (torch.linalg.svdvals(matrices.double())[..., :rank] - 1).abs().flatten()


BACKWARD_PASSES: dict[str, Callable[[], AbstractContextManager]] = {
    "automatic": lambda: patch.object(module._Iteration, "apply", module._iterate),
    "own": nullcontext,
}


def _backward_pass(num_rounds: int) -> str:
    rows = [["with gradients", "automatic, s", "own, s", "ratio"]]
    for name, call in _computations().items():
        call()
        calls = {name: partial(_call_in, context, call) for name, context in BACKWARD_PASSES.items()}
        seconds = measuring.side_by_side(calls, num_rounds)
        cells = [f"{each:.4f}" for each in seconds.values()]
        rows.append([name, *cells, f"{seconds['own'] / seconds['automatic']:.3f}"])
    return markdown_table(rows)


def _computations() -> dict[str, Callable[[], object]]:
    model = load()
    options = replace(model.default_options, steps=1, speed="exact")
    inputs = model.prepare([load_audio(RECORDING)])
    config = HybridASRConfig(num_hidden_layers=1)
    block = cast("LactBlock", HybridASRForCTC(config).eval().layers[0])
    hidden = torch.randn(1, 5 * FRAMES_PER_SECOND, config.hidden_size)
    mask = torch.ones(hidden.shape[:2], dtype=torch.bool)
    fast_weights = [block.memory.w0, block.memory.w1, block.memory.w2]

    def of_matrices(*shape: int) -> Callable[[], object]:
        matrices, weights = torch.randn(shape, requires_grad=True), torch.randn(shape)
        return lambda: torch.autograd.grad((newton_schulz(matrices) * weights).sum(), matrices)

    return {
        "12 matrices 104 × 104 (bundled model)": of_matrices(12, 104, 104),
        "12 matrices 192 × 1536 (full size)": of_matrices(12, HEAD_SIZE, HIDDEN_SIZE),
        "a block of the full-size model": lambda: torch.autograd.grad(block(hidden, mask).sum(), fast_weights),
        "an exact step of the bundled model": lambda: adapt(model, inputs, options),
        "the same on fast weights": lambda: adapt(model, inputs, replace(options, parameters="fast_weights")),
    }


def _arithmetic(num_rounds: int) -> str:
    rows = [["without gradients", "float32, s", "bfloat16, s", "ratio", "difference"]]
    shapes = {
        "filters 416 × 2496 (bundled model)": (416, 2496),
        "12 matrices 104 × 104 (bundled model)": (12, 104, 104),
        "12 matrices 192 × 1536 (full size)": (12, HEAD_SIZE, HIDDEN_SIZE),
    }
    for name, shape in shapes.items():
        matrices = torch.randn(shape)
        calls = {"float32": partial(newton_schulz, matrices), "bfloat16": partial(_in_bfloat16, matrices)}
        exact, rounded = (call() for call in calls.values())
        seconds = measuring.side_by_side(calls, num_rounds)
        cells = [f"{each:.4f}" for each in seconds.values()]
        difference = (exact - rounded).norm() / exact.norm()
        rows.append([name, *cells, f"{seconds['bfloat16'] / seconds['float32']:.2f}", f"{difference:.3f}"])
    return markdown_table(rows)


def _in_bfloat16(matrices: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return newton_schulz(matrices)


def _call_in(context: Callable[[], AbstractContextManager], call: Callable[[], object]) -> None:
    with context():
        call()


if __name__ == "__main__":
    main()
