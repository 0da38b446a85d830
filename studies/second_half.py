"""Does a stream gain from what it has learned? Error rates in the first and the second half of it.

    lact-asr evaluate --subset SUBSET --noise_dir NOISE --conditions noise:5:sea_waves,room:bathroom \\
        --methods none,ttt:1,continual:1 --output_dir OUTPUT_DIR
    python studies/second_half.py OUTPUT_DIR [OUTPUT_DIR ...]

OUTPUT_DIR is that of a `lact-asr evaluate`, which is not run again. Its utterances are a stream in their order, under
one condition after the other. Printed: a row for each folder and method, with the word error rate of both halves, the
mean over the conditions, and what changes from the first method (paired 95 % interval over utterances).
"""

import argparse
from collections import defaultdict
from pathlib import Path

from cells import rate_cells
from records import read_records

from lact_asr_model.errors import one_line_errors
from lact_asr_model.metrics import ConditionErrors, ErrorCounts, word_errors

Halves = tuple[list[ConditionErrors], list[ConditionErrors]]  # one of each condition


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dirs", type=Path, nargs="+")
    arguments = parser.parse_args()
    with one_line_errors():
        print("| evaluation | method | first half: WER % | change (95 %) | second half: WER % | change (95 %) |")
        print("|---|---|---|---|---|---|")
        for folder in arguments.output_dirs:
            print_rows(folder)


def print_rows(folder: Path) -> None:
    """Print a row for each method of a folder."""
    halves = errors_by_half(folder)
    baseline = next(iter(halves.values()))
    for method, of_method in halves.items():
        cells = list[str]()
        for own, others in zip(of_method, baseline, strict=True):
            cells += rate_cells(own, others)
        print(f"| {folder.name} | {method} | {' | '.join(cells)} |")


def errors_by_half(folder: Path) -> dict[str, Halves]:
    """The errors of every method in the first and in the second half of each condition's utterances."""
    errors: dict[str, dict[str, list[tuple[str, ErrorCounts]]]] = defaultdict(lambda: defaultdict(list))
    for record in read_records(folder):
        pair = record["id"], word_errors(record["ref"], record["hyp"])
        errors[record["method"]][record["condition"]].append(pair)
    halves = {}
    for method, of_conditions in errors.items():
        streams = list(of_conditions.values())
        halves[method] = (
            [ConditionErrors(dict(stream[: len(stream) // 2])) for stream in streams],
            [ConditionErrors(dict(stream[len(stream) // 2 :])) for stream in streams],
        )
    return halves


if __name__ == "__main__":
    main()
