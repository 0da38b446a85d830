"""All studies of `studies/ttt_study.sh` in one table: a row for each study and method.

python studies/ttt_study_table.py OUTPUT_DIR
"""

import argparse
import json
from pathlib import Path
from typing import Any


def rate(summary: dict[str, Any], name: str) -> str:
    """An error rate in percent; * = the interval of its difference from no adaptation excludes 0."""
    low, high = summary.get(f"{name}_difference_interval", (0.0, 0.0))
    return f"{100 * summary[name]:.1f}{'*' if low > 0 or high < 0 else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    paths = sorted(parser.parse_args().output_dir.glob("*/results.json"))

    print("| study | method | clean WER | CER | shifted WER | CER | adapted % | time / none |")
    print("|---|---|---|---|---|---|---|---|")
    shown = set()
    for path in paths:
        results = json.loads(path.read_text())
        for clean, shifted in zip(results["results"], results["mean_of_shifted"], strict=False):
            rates = " | ".join(rate(summary, name) for summary in (clean, shifted) for name in ("wer", "cer"))
            if shifted["method"] == "none":
                if rates in shown:  # the same model without adaptation
                    continue
                shown.add(rates)
                print(f"| | none | {rates} | | 1 |")
                continue
            share = 100 * shifted["adapted_share"]
            print(f"| {path.parent.name} | {shifted['method']} | {rates} | {share:.0f} | {shifted['time_ratio']:.1f} |")


if __name__ == "__main__":
    main()
