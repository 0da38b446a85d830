"""A model for another runtime: `lact-asr export`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lact_asr_model.commands.options import add_model_options, load_model
from lact_asr_model.errors import one_line_errors


def main(argv: Sequence[str] | None = None) -> None:
    """Export a checkpoint, and say how large it is and how close to the original."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        model = load_model(arguments).to("cpu")

        from lact_asr_model.export.onnx_export import export_onnx

        description = export_onnx(model, arguments.onnx, int8=arguments.int8)
        num_bytes = sum(path.stat().st_size for path in arguments.onnx.iterdir())
        differences = description.largest_differences
        print(
            f"{arguments.onnx}: {description.source} in {num_bytes / 1e6:.1f} MB, {description.weights}, opset "
            f"{description.opset}; with float32 weights, log-probabilities differ from PyTorch's by at most "
            f"{max(differences.values()):.2g} at {', '.join(differences)} samples"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Write a model as an ONNX graph for recordings of any length, with all that is needed to run it. "
        "`lact-asr transcribe --runtime onnx --checkpoint OUT` does so without PyTorch.",
        epilog="The plain path is exported: an exported model cannot be adapted.",
    )
    parser.add_argument("--onnx", required=True, type=Path, metavar="OUT", help="new folder for the exported model")
    parser.add_argument(
        "--int8", action="store_true", help="the matrices as 8-bit integers: a quarter of the size, nearly as accurate"
    )
    add_model_options(parser)
    return parser
