"""What one short recording costs in a process of its own, and how much of that is imports.

    python benchmarks/start_up.py [--quick] [--write]

`lact-asr transcribe` of a bundled recording, greedily and with a beam and the language model, in turn: seconds of
processor time, the median of the rounds. Then one more such process tells what it imports: the share of each package
in the time of all imports, what a package imports of others not counted in.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from statistics import median

import measuring

from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.evaluation.summary import markdown_table

RECORDING = RECORDINGS_DIR / "1673-143397-0008.mp3"
MODES = {"greedy": (), "beam of 50 with the language model": ("--beam_size", "50")}
NUM_PACKAGES = 8
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)")


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(measuring.make_parser(__doc__), _measure, argv)


def _measure(arguments: argparse.Namespace) -> str:
    command = ("transcribe", str(RECORDING), "--num_threads", str(arguments.num_threads))
    usages: dict[str, list[measuring.Usage]] = {name: [] for name in MODES}
    for _ in range(1 if arguments.quick else 9):
        for name, options in MODES.items():
            usages[name].append(measuring.run_lact_asr(*command, *options))
    rows = [["", "processor time, s", "peak memory, MB"]]
    for name, of_mode in usages.items():
        seconds, megabytes = (
            median(values) for values in zip(*((u.seconds, u.megabytes) for u in of_mode), strict=True)
        )
        rows.append([name, f"{seconds:.2f}", f"{megabytes:.0f}"])
    told = measuring.run_process(["-X", "importtime", "-m", "lact_asr_model.cli", *command]).stderr
    return f"{markdown_table(rows)}\n\n{markdown_table(import_shares(told))}"


def import_shares(told: str) -> list[list[str]]:
    """The rows of a table, from what Python's option `-X importtime` prints: microseconds of every module."""
    microseconds: Counter[str] = Counter()
    for own, package in IMPORT_LINE.findall(told):
        microseconds[package] += int(own)
    total = microseconds.total()
    rows = [["imported", "seconds", "share"], ["all", f"{total / 1e6:.2f}", "100 %"]]
    for package, own in microseconds.most_common(NUM_PACKAGES):
        rows.append([package, f"{own / 1e6:.2f}", f"{100 * own / total:.0f} %"])
    return rows


if __name__ == "__main__":
    main()
