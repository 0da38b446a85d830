"""Does adaptation help slow speech as it helps fast speech? Error rates by words a second.

    python studies/by_speaking_rate.py OUTPUT_DIR [OUTPUT_DIR ...] [--condition clean]

OUTPUT_DIR is that of a `lact-asr evaluate`, which is not run again. Printed: a row for each of them and range of words
a second (of the reference, pauses included), with the word error rate and the insertions per 100 words of every method.
"""

import argparse
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from records import read_records

from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.metrics import ErrorCounts, word_errors

EDGES = (0.0, 1.5, 2.0, 2.5, 3.0, float("inf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dirs", type=Path, nargs="+")
    parser.add_argument("--condition", default="clean")
    with one_line_errors():
        print_table(parser.parse_args())


def print_table(arguments: argparse.Namespace) -> None:
    """Print the rows of every folder."""
    print("| evaluation | words a second | utterances | method: WER % (insertions per 100 words) |")
    print("|---|---|---|---|")
    for folder in arguments.output_dirs:
        records = [record for record in read_records(folder) if record["condition"] == arguments.condition]
        if not records:
            raise UserError(
                f"{folder}: has nothing under the condition {arguments.condition!r}; give another --condition"
            )
        for low, high in pairwise(EDGES):
            counts: dict[str, list[ErrorCounts]] = defaultdict(list)
            for record in records:
                if low <= len(record["ref"].split()) / record["duration"] < high:
                    counts[record["method"]].append(word_errors(record["ref"], record["hyp"]))
            if not counts:
                continue
            totals = {method: sum(of_method, ErrorCounts()) for method, of_method in counts.items()}
            cells = ", ".join(
                f"{method}: {100 * total.rate:.1f} ({100 * total.insertions / total.reference_length:.0f})"
                for method, total in totals.items()
            )
            print(f"| {folder.name} | {low:g} to {high:g} | {len(next(iter(counts.values())))} | {cells} |")


if __name__ == "__main__":
    main()
