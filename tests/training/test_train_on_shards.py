"""Training on shards is training on their files: the same steps, each sample once an epoch, resumable inside one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lact_asr_model.commands import pack_shards
from lact_asr_model.training.arguments import TrainingArguments
from lact_asr_model.training.loading import Batch
from lact_asr_model.training.trainer import Trainer, train

pytest.importorskip("webdataset")

Make = Callable[..., TrainingArguments]

RECORDING = """
import json, os, sys
from lact_asr_model.training.trainer import Trainer
from lact_asr_model.commands.train import main

step = Trainer._step
def recorded(self, batches):
    step(self, batches)
    ids = [name for batch in batches for name in batch["ids"]]
    with open(f"{sys.argv[1]}/seen-{os.environ['RANK']}.json", "w") as file:
        json.dump(ids, file)
Trainer._step = recorded
main(sys.argv[2:])
"""


@pytest.fixture
def shards(librispeech_dir: Path, tmp_path: Path) -> Path:
    """Three shards of the seven utterances of train-tiny."""
    folder = tmp_path / "shards"
    pack_shards.main(f"--data_dir {librispeech_dir} --subset train-tiny --output_dir {folder} --shard_mb 0.05".split())
    assert len(list(folder.glob("*.tar"))) == 3
    return folder


def losses(arguments: TrainingArguments) -> list[float]:
    return [record["loss"] for record in train(arguments)["history"] if "loss" in record]


def test_the_steps_are_those_of_the_files(make_arguments: Make, shards: Path, tmp_path: Path) -> None:
    options = {"augment": True, "num_workers": 1, "join_share": 0.5, "join_seconds": 3.0}
    on_files = make_arguments(output_dir=tmp_path / "files", **options)
    on_shards = make_arguments(output_dir=tmp_path / "on_shards", train_subset=str(shards), **options)
    assert losses(on_shards) == losses(on_files)


def test_two_processes_and_one_that_goes_on_see_each_sample_once(
    make_arguments: Make, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch is two steps of four and three samples; two processes take the first of them, one the second."""
    arguments = make_arguments(batch_size=2)
    script = tmp_path / "recording.py"
    script.write_text(RECORDING)
    flags = [
        *("--config_path", arguments.config_path, "--data_dir", arguments.data_dir, "--train_subset", shards),
        *("--val_subset", "dev-tiny", "--output_dir", arguments.output_dir, "--batch_size", 2, "--max_steps", 1),
        *("--warmup_steps", 0, "--log_every", 1, "--eval_every", 100, "--num_workers", 0, "--resume"),
        *("--gradient_accumulation_steps", 1),
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = subprocess.run(
        [*torchrun, str(script), str(tmp_path), *map(str, flags)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    first = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
    assert [len(ids) for ids in first] in ([2, 2], [2, 1])

    second: list[str] = []
    step = Trainer._step

    def recorded(self: Trainer, batches: list[Batch]) -> None:
        step(self, batches)
        second.extend(name for batch in batches for name in batch["ids"])

    monkeypatch.setattr(Trainer, "_step", recorded)
    results = train(make_arguments(train_subset=str(shards), batch_size=4, warmup_steps=0, max_steps=2, resume=True))
    assert results["step"] == 2
    assert sorted(first[0] + first[1] + second) == [f"1-10-{number:04d}" for number in range(7)]
