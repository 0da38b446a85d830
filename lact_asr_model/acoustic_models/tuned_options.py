"""Options of adaptation that were tuned for a model, kept beside it as `adaptation.json`."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.errors import UserError

FILE_NAME = "adaptation.json"


def read_tuned_options(folder: Path | None) -> AdaptationOptions | None:
    """The options in the folder of a model; None = there are none.

    Raises:
        UserError: the file is damaged.
    """
    path = None if folder is None else folder / FILE_NAME
    if path is None or not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {option.name for option in fields(AdaptationOptions)}
        return AdaptationOptions(**{name: value for name, value in content.items() if name in names})
    except (OSError, ValueError, AttributeError, TypeError):
        raise UserError(f"{path}: is not a file of `lact-asr tune-ttt`; run it again, or delete the file") from None


def write_tuned_options(folder: Path, options: AdaptationOptions, tuning: dict[str, Any]) -> Path:
    """Write the options into the folder of a model, with an account of the tuning. Raises UserError."""
    path = folder / FILE_NAME
    try:
        path.write_text(json.dumps({**asdict(options), "tuning": tuning}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give --output_dir") from None
    return path
