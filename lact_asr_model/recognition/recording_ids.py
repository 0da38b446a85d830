"""Short names for recordings, each different from the others; they name files of an `--output_dir` too."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from lact_asr_model.recognition.output_formats import numbered

_WILDCARDS = "*?["


def root_of(pattern: str) -> Path:
    """The folder below which the files of a pattern keep their tree: itself, or all before the first wildcard."""
    path = Path(pattern)
    if os.path.isdir(path):  # which, other than `is_dir`, raises nothing where a folder is closed
        return path
    if os.path.exists(path):
        return path.parent
    fixed = []
    for part in path.parts[:-1]:
        if any(character in part for character in _WILDCARDS):
            break
        fixed.append(part)
    return Path(*fixed)


def distinct_ids(files: Sequence[tuple[Path, Path]]) -> list[str]:
    """An id for every file: its path below its root, without suffix.

    Where that is not enough, folders above are added, then the suffix, then a number for a file that is there twice.

    Args:
        files: root (from `root_of`) and path of each.
    """
    full_parts = [Path(os.path.abspath(path)).with_suffix("").parts[1:] for _, path in files]
    depths = [_depth(root, path) for root, path in files]

    def tail(index: int) -> tuple[str, ...]:
        return full_parts[index][-depths[index] :]

    while True:
        too_short = [
            index
            for group in _groups([tail(index) for index in range(len(files))])
            if len({full_parts[index] for index in group}) > 1
            for index in group
            if depths[index] < len(full_parts[index])
        ]
        if not too_short:
            break
        for index in too_short:
            depths[index] += 1
    ids = ["/".join(tail(index)) for index in range(len(files))]
    for group in _groups(ids):
        suffixes = {files[index][1].suffix for index in group}
        for index in group:
            ids[index] += files[index][1].suffix if len(suffixes) > 1 else ""
    return numbered(ids)


def _depth(root: Path, path: Path) -> int:
    """How many parts of the path are below its root; 1 if a pattern with ".." has led elsewhere."""
    folder, file = Path(os.path.abspath(root)), Path(os.path.abspath(path))
    return len(file.relative_to(folder).parts) if file.is_relative_to(folder) else 1


def _groups(keys: Sequence[object]) -> list[list[int]]:
    """The places of equal keys, where there are several."""
    places = defaultdict(list)
    for index, key in enumerate(keys):
        places[key].append(index)
    return [group for group in places.values() if len(group) > 1]
