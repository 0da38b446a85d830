"""The load test of `benchmarks/`, in short."""

import subprocess
import sys
from pathlib import Path

import pytest

REASON = 'the serve extra is not installed: pip install "lact-asr[serve]"'
for package in ("httpx", "fastapi", "async_batcher"):
    pytest.importorskip(package, reason=REASON)


def test_every_answer_under_load_is_the_one_that_was_given_alone() -> None:
    command = [sys.executable, "benchmarks/service_load.py", "--num_clients", "4", "--seconds", "10"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    names, _, values = ([cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines())
    row = dict(zip(names, values, strict=True))
    assert row["wrong answers"] == "0"
    assert int(row["answers"]) >= 4
