"""What an exported model costs and what it gives, beside PyTorch: size, start, memory, speed and word error rate.

    python benchmarks/export.py --data_dir DATA_DIR --subset dev-mini

The checkpoint is exported twice, in float32 and with 8-bit matrices. Each row is `lact-asr transcribe` in processes
of its own: on one recording of a second (start: its processor time) and on the data set, one recording at a time and
greedily. Memory is the largest resident size of that process; speed is seconds of audio per second of its processor
time, start and reading of files included. Processor time does not depend on what else the machine does; with one
thread it is the waiting time on a machine that does nothing else.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from measuring import Usage, run_lact_asr

import lact_asr_model
from lact_asr_model.errors import one_line_errors

# This process stays small, and imports neither torch nor what does: its own size would count as a child's.
BUNDLED_MODEL_DIR = Path(lact_asr_model.__file__).parent / "bundled_model"
COLUMNS = ("runtime", "size, MB", "start, s", "memory, MB", "audio s / s", "WER % (95 %)")


@dataclass(frozen=True)
class Runtime:
    """A row of the table. folder: of the model's files. options: with which `lact-asr transcribe` takes it."""

    name: str
    folder: Path
    options: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Export, run, and print the table."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _compare(arguments)


def _compare(arguments: argparse.Namespace) -> None:
    checkpoint = ("--checkpoint", arguments.checkpoint) if arguments.checkpoint else ()
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        whole, small = scratch / "float32", scratch / "int8"
        run_lact_asr("export", "--onnx", str(whole), *checkpoint)
        run_lact_asr("export", "--onnx", str(small), "--int8", *checkpoint)
        runtimes = [
            Runtime("PyTorch", Path(arguments.checkpoint or BUNDLED_MODEL_DIR), checkpoint),
            Runtime("ONNX Runtime, float32", whole, ("--runtime", "onnx", "--checkpoint", str(whole))),
            Runtime("ONNX Runtime, int8", small, ("--runtime", "onnx", "--checkpoint", str(small))),
        ]
        second = scratch / "second.wav"
        soundfile.write(second, np.random.default_rng(0).normal(scale=0.1, size=16000), 16000)
        print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
        for runtime in runtimes:
            options = (*runtime.options, "--num_threads", str(arguments.num_threads))
            start_seconds = run_lact_asr("transcribe", str(second), *options).seconds
            output_dir = scratch / "results" / runtime.name
            data = ("--data_dir", arguments.data_dir, "--subset", arguments.subset, "--output_dir", str(output_dir))
            usage = run_lact_asr("transcribe", *data, *options)
            results = json.loads((output_dir / "results.json").read_text(encoding="utf-8"))
            print(_row(runtime, start_seconds, usage, results), flush=True)
        print(f"\n{arguments.subset}, {results['run']['hardware']}, {arguments.num_threads} thread(s)")


def _row(runtime: Runtime, start_seconds: float, usage: Usage, results: dict[str, Any]) -> str:
    size_mb = sum(path.stat().st_size for path in runtime.folder.glob("model*")) / 1e6
    low, high = (100 * rate for rate in results["wer_interval"])
    wer = f"{100 * results['wer']:.2f} ({low:.1f} to {high:.1f})"
    speed = results["audio_seconds"] / usage.seconds
    return f"| {runtime.name} | {size_mb:.0f} | {start_seconds:.1f} | {usage.megabytes:.0f} | {speed:.1f} | {wer} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare an exported model with PyTorch.")
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="folder of a data set with references")
    parser.add_argument("--subset", default="dev-mini", help="LibriSpeech subset or manifest (default: dev-mini)")
    parser.add_argument("--checkpoint", metavar="PATH", help="folder of a checkpoint (default: the bundled model)")
    parser.add_argument("--num_threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    return parser


if __name__ == "__main__":
    main()
