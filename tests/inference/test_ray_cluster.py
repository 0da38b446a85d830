"""Recognition on a Ray cluster of two machines, of which one is lost, gives what one process gives.

The machines are processes here. Each start of a worker loads torch, so this takes minutes, and `make test-all` does it.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.commands.transcribe import main

pytest.importorskip("ray", reason='the ray extra is not installed: pip install "lact-asr[ray]"')
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]
OBJECT_STORE_BYTES = 100_000_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One machine with a processor; a test adds the other."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def run(*arguments: object) -> int:
    """Run the command in this process; returns its exit code."""
    try:
        main([*map(str, arguments), "--num_threads", "1"])
    except SystemExit as exit:
        return exit.code
    return 0


def wait_for_lines(path: Path, number: int) -> None:
    """Until so many are written."""
    while not path.exists() or path.read_bytes().count(b"\n") < number:
        time.sleep(0.05)


def test_a_machine_is_lost_midway_and_nothing_else(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(2):
        for path in RECORDINGS_DIR.glob("*.mp3"):
            shutil.copy(path, folder / f"{path.stem}-{number}.mp3")
    (folder / "corrupt.mp3").write_bytes(b"not audio")
    flags = (folder, "--format", "jsonl", "--use_ttt", "--ttt_speed", "fast", "--ttt_steps", "1")
    alone, shared = tmp_path / "alone.jsonl", tmp_path / "shared.jsonl"
    assert run(*flags, "--output", alone) == 1
    (error,) = capsys.readouterr().err.splitlines()

    second = cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=OBJECT_STORE_BYTES)

    def lose_a_machine() -> None:
        wait_for_lines(shared, 4)  # both are at work
        cluster.remove_node(second, allow_graceful=False)

    loser = threading.Thread(target=lose_a_machine)
    loser.start()
    assert run(*flags, "--output", shared, "--ray", cluster.address) == 1
    loser.join()
    lines = capsys.readouterr().err.splitlines()
    assert error in lines
    lines.remove(error)
    assert lines
    assert all(line.startswith("warning: a worker was lost (") for line in lines), lines
    assert shared.read_text() == alone.read_text()
    assert len(alone.read_text().splitlines()) == 20


def test_a_job_that_was_stopped_goes_on(
    cluster: Any, librispeech_dir: Path, checkpoint_dir: Path, arpa_path: Path, tmp_path: Path
) -> None:
    manifest = librispeech_dir / "many.jsonl"
    sound = next(librispeech_dir.rglob("1-10-0000.*"))
    items = [{"id": str(number), "audio_filepath": str(sound), "text": "A CAB"} for number in range(400)]
    manifest.write_text("".join(json.dumps(item) + "\n" for item in items))
    flags = ["--checkpoint", checkpoint_dir, "--data_dir", librispeech_dir, "--subset", manifest.name]
    flags += ["--beam_size", "5", "--lm", arpa_path, "--batch_size", "2"]
    assert run(*flags, "--output_dir", tmp_path / "alone") == 0

    folder = tmp_path / "shared"
    command = [*flags, "--output_dir", folder, "--num_threads", "1", "--ray", cluster.address]
    words = [sys.executable, "-m", "lact_asr_model.cli", "transcribe", *map(str, command)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        wait_for_lines(folder / "transcripts.jsonl", 20)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM
    num_kept = len((folder / "transcripts.jsonl").read_text().splitlines())
    assert 20 <= num_kept < 400
    last = errors.splitlines()[-1]
    assert last.startswith("interrupted; ")
    assert last.endswith(f" of 400 transcripts are in {folder / 'transcripts.jsonl'}; --resume goes on")

    assert run(*flags, "--output_dir", folder, "--ray", cluster.address, "--resume") == 0
    alone, shared = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "shared"))
    assert shared.pop("num_resumed") == num_kept
    measured = ("num_resumed", "rtfx", "compute_seconds", "run")
    assert {key: alone[key] for key in alone if key not in measured} == {
        key: shared[key] for key in shared if key not in measured
    }
    texts = [(tmp_path / name / "transcripts.jsonl").read_text() for name in ("alone", "shared")]
    assert texts[0] == texts[1]


def test_a_folder_of_good_and_bad_files_is_as_in_one_process(
    cluster: Any, checkpoint_dir: Path, recordings_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--checkpoint", checkpoint_dir, recordings_dir, recordings_dir / "missing.wav", "--format", "srt")
    outcomes = []
    for name, others in (("alone", ()), ("shared", ("--ray", cluster.address))):
        assert run(*flags, *others, "--output_dir", tmp_path / name) == 1
        files = {path.name: path.read_text() for path in (tmp_path / name).iterdir()}
        outcomes.append((files, sorted(capsys.readouterr().err.splitlines())))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][0]) == 6


def test_what_keeps_workers_from_starting_is_one_line(
    cluster: Any, recordings_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (recordings_dir / "mono.wav", "--output", tmp_path / "out.txt", "--ray", cluster.address)
    assert run(*flags, "--checkpoint", tmp_path / "nowhere") == 2
    assert run(*flags, "--decoding_processes", "5") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: checkpoint {tmp_path / 'nowhere'}")
    assert lines[1] == "error: --ray: the cluster has not the 6 CPUs that a worker needs; add machines"
