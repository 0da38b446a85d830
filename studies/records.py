"""The recognitions of a finished `lact-asr evaluate`, for the studies that look at them once more."""

import json
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of a finished evaluation, each recognition once, in their order.

    A stream that was stopped and resumed is recognised anew from its beginning, and its last records count.

    Raises:
        UserError: the folder holds no finished evaluation.
    """
    if not (folder / "results.json").is_file():
        raise UserError(f"{folder}: holds no finished evaluation; give the --output_dir of a `lact-asr evaluate`")
    lines = (folder / "utterances.jsonl").read_text().splitlines()
    records = {(record["condition"], record["method"], record["id"]): record for record in map(json.loads, lines)}
    return list(records.values())
