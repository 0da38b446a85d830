"""What a command has finished in its output folder, a line of JSON each, so that another run can go on with it."""

import json
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError
from lact_asr_model.files import complete_lines, write_atomically


def read_finished(path: Path, head: dict[str, Any], *, resume: bool) -> list[dict[str, Any]]:
    """What an earlier run has finished; in a new --output_dir, the file gets its head.

    Raises:
        UserError: the folder of `path` holds something else, or work on other options or data.
    """
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_new = not any(folder.iterdir())
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--output_dir {folder}: is a file; name a folder") from None
    except OSError as error:
        raise UserError(f"--output_dir {folder}: {error.strerror}; choose another place") from None
    if is_new:
        write_atomically(path, json.dumps(head) + "\n")
        return []
    if not resume or not path.is_file():
        raise UserError(f"--output_dir {folder}: is not empty; choose a new folder, or go on with a run by --resume")
    content = complete_lines(path.read_bytes())
    first, *entries = [json.loads(line) for line in content.splitlines()] or [None]
    if first != head:
        raise UserError(f"{path}: was begun with other options or data; give the same, or choose a new --output_dir")
    if len(content) < path.stat().st_size:
        write_atomically(path, content.decode("utf-8"))
    return entries
