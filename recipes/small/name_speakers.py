"""Manifests of single speakers and of AN4 with the speakers that their own do not name.

    python recipes/small/name_speakers.py DATA_DIR OUTPUT_DIR

Training joins neighbouring utterances of one speaker to long recordings, so it wants to know who speaks. The corpora
"kathleen" and "ljspeech" have one speaker each; AN4's speaker is the middle part of a file's name (an251-fash-b).
"""

import json
import sys
from pathlib import Path


def main() -> None:
    data_dir, output_dir = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    output_dir.mkdir(parents=True, exist_ok=True)
    for corpus in ("kathleen", "ljspeech", "an4"):
        lines = []
        for line in (data_dir / corpus / "train.jsonl").read_text().splitlines():
            entry = json.loads(line)
            path = data_dir / corpus / entry["audio_filepath"]
            speaker = f"an4-{path.stem.split('-')[1]}" if corpus == "an4" else corpus
            lines.append(json.dumps({**entry, "audio_filepath": str(path), "speaker": speaker}))
        (output_dir / f"{corpus}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
