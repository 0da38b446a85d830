"""What the benchmarks of speed share: their command line, timings side by side, processes of their own, the report.

Each prints a Markdown table and the machine that it is of. `--write` puts both into the benchmark's place in
docs/PERFORMANCE.md, where only figures of an idle machine belong; `--quick` is a short form, to see that it runs.
Nothing here imports torch before it is needed, so that a process that measures other processes stays small.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TypeVar

from places import fill

from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.recognition.run_description import commit, cpu_name

Name = TypeVar("Name")

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "PERFORMANCE.md"


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark of speed has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="the short form: seconds, to see that it runs")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/PERFORMANCE.md; on an idle machine only"
    )
    parser.add_argument("--num_threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    return parser


def run(
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], str],
    argv: Sequence[str] | None = None,
    document: Path = DOCUMENT,
) -> None:
    """Run a benchmark: `measure` gives its tables as Markdown. The place in the document has the script's name."""
    arguments = parser.parse_args(argv)
    words = sys.argv[1:] if argv is None else argv
    script = Path(measure.__code__.co_filename)
    with one_line_errors():
        if arguments.quick and arguments.write:
            raise UserError("--write: takes the figures of a whole benchmark; leave out --quick")
        if arguments.num_threads < 1:
            raise UserError(f"--num_threads {arguments.num_threads}: is below 1; give 1 or more")
        command = shlex.join(["python", f"benchmarks/{script.name}", *(word for word in words if word != "--write")])
        text = f"{measure(arguments)}\n\n`{command}`; {machine(arguments.num_threads)}.\n"
        print(text, end="", flush=True)
        if arguments.write and not fill([document], script.stem, text, kind="benchmark"):
            raise UserError(f"{document}: has no place for {script.stem}; add <!-- benchmark: {script.stem} -->")


def machine(num_threads: int) -> str:
    """Processor, threads, version and commit, for the line below a table."""
    threads = f"{num_threads} thread{'s' if num_threads > 1 else ''} of {cpu_name()} with {os.cpu_count()} cores"
    return f"{threads}; torch {version('torch')}; commit {(commit() or 'unknown')[:7]}"


def clock_seconds() -> float:
    """Processor time where one thread computes, which other processes hardly stretch; else that of the wall clock."""
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def side_by_side(
    calls: Mapping[Name, Callable[[], object]], num_rounds: int, limit_seconds: float = 120.0
) -> dict[Name, float]:
    """The median seconds of each call.

    All are called in turn, every other round in reverse, so that whatever disturbs the machine disturbs all of them.
    Rounds end after `limit_seconds`, but not before the first is complete.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    begin_seconds = time.perf_counter()
    for index in range(num_rounds):
        for name in list(calls) if index % 2 == 0 else reversed(list(calls)):
            start_seconds = clock_seconds()
            calls[name]()
            seconds[name].append(clock_seconds() - start_seconds)
        if time.perf_counter() - begin_seconds > limit_seconds:
            break
    return {name: median(values) for name, values in seconds.items()}


@dataclass(frozen=True)
class Usage:
    """What a process took. seconds: of processor time, those of its children included. megabytes: at its largest."""

    seconds: float
    megabytes: float
    stderr: str


def run_process(arguments: Sequence[str]) -> Usage:
    """Run Python with these arguments, and measure it.

    Raises:
        UserError: it failed; what it said on stderr was shown.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        sys.stderr.write(stderr)
        raise UserError(f"python {shlex.join(arguments)}: ended with {process.returncode}; see above")
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, stderr)


def run_lact_asr(*arguments: str) -> Usage:
    """The same for a command of `lact-asr`."""
    return run_process(["-m", "lact_asr_model.cli", *arguments])
