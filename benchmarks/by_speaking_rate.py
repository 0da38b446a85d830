"""Does adaptation help slow speech as it helps fast speech? Error rates by words a second.

    python benchmarks/by_speaking_rate.py OUTPUT_DIR [OUTPUT_DIR ...] [--condition clean]

OUTPUT_DIR is that of a `lact-asr evaluate`, which is not run again. Printed: a row for each of them and range of words
a second (of the reference, pauses included), with the word error rate and the insertions per 100 words of every method.
"""

import argparse
import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from lact_asr_model.metrics import ErrorCounts, word_errors

EDGES = (0.0, 1.5, 2.0, 2.5, 3.0, float("inf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dirs", type=Path, nargs="+")
    parser.add_argument("--condition", default="clean")
    arguments = parser.parse_args()

    print("| evaluation | words a second | utterances | method: WER % (insertions per 100 words) |")
    print("|---|---|---|---|")
    for folder in arguments.output_dirs:
        lines = (folder / "utterances.jsonl").read_text().splitlines()
        records = [record for line in lines if (record := json.loads(line))["condition"] == arguments.condition]
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
            (num_utterances,) = {len(of_method) for of_method in counts.values()}
            print(f"| {folder.name} | {low:g} to {high:g} | {num_utterances} | {cells} |")


if __name__ == "__main__":
    main()
