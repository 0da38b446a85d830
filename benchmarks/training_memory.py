"""The memory of real training steps of the full-size model on the CPU, beside what was expected of them.

    python benchmarks/training_memory.py --max_memory_gb 8

The specification's options, on batches of noise as long as training allows: a step takes minutes, and hours if the
processor is busy. Fewer layers and samples are quicker. The optimiser's state is there from the second step on.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from lact_asr_model.audio import SAMPLING_RATE
from lact_asr_model.errors import one_line_errors
from lact_asr_model.files import write_atomically
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.interruption import StopRequest
from lact_asr_model.training.micro_batches import GIGABYTE
from lact_asr_model.training.trainer import Trainer

FULL_SIZE_CONFIG = Path(__file__).parents[1] / "configs" / "hybrid_asr_config.json"
TEXT = "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG " * 5  # 14 letters a second


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_path", type=Path, default=FULL_SIZE_CONFIG)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--num_samples", type=int, default=250_000, help="length of every utterance")
    parser.add_argument("--num_hidden_layers", type=int, help="default: the configuration's")
    parser.add_argument("--num_steps", type=int, default=2)
    parser.add_argument("--max_memory_gb", type=float, help="default: what is free")
    parser.add_argument("--no_ttt", action="store_true", help="leave --enable_ttt out")
    arguments = parser.parse_args(argv)
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        _measure(arguments, Path(folder))


def _measure(arguments: argparse.Namespace, folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for number in range(arguments.batch_size):
        soundfile.write(folder / f"{number}.flac", rng.normal(scale=0.1, size=arguments.num_samples), SAMPLING_RATE)
        lines.append(
            f'{{"audio_filepath": "{number}.flac", "text": "{TEXT[: arguments.num_samples // 1200].strip()}"}}\n'
        )
    write_atomically(folder / "noise.jsonl", "".join(lines))
    config = json.loads(arguments.config_path.read_text())
    if arguments.num_hidden_layers is not None:
        config["num_hidden_layers"] = arguments.num_hidden_layers
    write_atomically(folder / "config.json", json.dumps(config))
    trainer = Trainer(
        TrainingArguments(
            config_path=folder / "config.json",
            data_dir=folder,
            train_subset="noise.jsonl",
            val_subset="noise.jsonl",
            output_dir=folder / "out",
            pretrained_encoder="none",
            batch_size=arguments.batch_size,
            gradient_accumulation_steps=1,
            max_audio_samples=arguments.num_samples,
            max_memory_gb=arguments.max_memory_gb,
            enable_ttt=not arguments.no_ttt,
            num_workers=0,
            max_steps=arguments.num_steps,
            warmup_steps=0,
        ),
        StopRequest(),
    )
    trainer._introduce()
    trainer.model.train()
    for step in range(1, arguments.num_steps + 1):
        started_seconds = time.process_time()
        trainer.state.progress.batches_in_epoch = 0  # the same batch again
        trainer._step(next(trainer._rest_of_epoch()))
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"step {step}: a peak of {peak / GIGABYTE:.2f} GB resident memory was measured; "
            f"{time.process_time() - started_seconds:.0f} s of processor time",
            flush=True,
        )
    trainer.close()


if __name__ == "__main__":
    main()
