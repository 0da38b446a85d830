"""Divide a manifest with the key `age` (years), such as speechocean762's, into adults.jsonl and children.jsonl.

    python recipes/small/split_by_age.py speechocean762/test.jsonl OUTPUT_DIR

An adult is at least 18. The audio stays where it is.
"""

import argparse
import json
from pathlib import Path

ADULT_YEARS = 18


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("output_dir", type=Path)
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.manifest.read_text().splitlines()]
    for row in rows:
        row["audio_filepath"] = str((arguments.manifest.parent / row["audio_filepath"]).resolve())
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name, are_adult in (("adults", True), ("children", False)):
        lines = [json.dumps(row) + "\n" for row in rows if (row["age"] >= ADULT_YEARS) == are_adult]
        (arguments.output_dir / f"{name}.jsonl").write_text("".join(lines))
        print(f"{name}: {len(lines)} utterances")


if __name__ == "__main__":
    main()
