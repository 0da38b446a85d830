"""Finding audio files: by name, in folders, by globs, and what was left out."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lact_asr_model.audio import AUDIO_SUFFIXES, has_audio
from lact_asr_model.errors import UserError

_MOST_NAMES = 20


@dataclass
class FoundAudio:
    """Audio files, each once, and everything else that was looked at, with the reason why it was left out."""

    paths: list[Path] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)

    def describe_left_out(self) -> str | None:
        """One line with their number and the first names; None if nothing was left out."""
        if not self.left_out:
            return None
        names = [f"{path} ({reason})" for path, reason in self.left_out[:_MOST_NAMES]]
        more = len(self.left_out) - len(names)
        return f"{len(self.left_out)} left out: {', '.join(names)}{f' and {more} more' if more else ''}"


def find_audio_files(patterns: Iterable[str | Path]) -> list[Path]:
    """The paths of `search_audio_files`."""
    return search_audio_files(patterns).paths


def search_audio_files(patterns: Iterable[str | Path]) -> FoundAudio:
    """Audio files named by `patterns`, in their order and each once.

    A pattern is a file (taken whatever its name), a folder (searched recursively, sorted) or a glob (sorted). Folders
    and globs give files with the suffix of audio or video, and others whose content is audio; hidden ones are left out.

    Raises:
        UserError: a pattern matches no audio file.
    """
    found = FoundAudio()
    seen: set[Path] = set()
    for pattern in patterns:
        part = _search(pattern)
        found.paths += [path for path in part.paths if path not in seen]
        seen.update(part.paths)
        found.left_out += part.left_out
    return found


def _search(pattern: str | Path) -> FoundAudio:
    path = Path(pattern)
    try:
        is_folder = path.is_dir()
        if not is_folder and path.exists():
            return FoundAudio([path])  # a pipe or a device too
        matches = [path] if is_folder else sorted(map(Path, glob.glob(str(pattern), recursive=True)))
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise UserError(f"{pattern}: {reason}; check the path") from None
    found = FoundAudio()
    for match in matches:
        entries = sorted(_walk(match, found.left_out)) if os.path.isdir(match) else [match]
        for entry in entries:
            reason = _reason_against(entry)
            if reason is None:
                found.paths.append(entry)
            else:
                found.left_out.append((entry, reason))
    if not found.paths:
        reason = "no audio files in it" if is_folder else "no such audio file"
        left_out = found.describe_left_out()
        raise UserError(f"{pattern}: {reason}{f', {left_out}' if left_out else ''}; check the path")
    return found


def _walk(folder: Path, left_out: list[tuple[Path, str]]) -> Iterator[Path]:
    """The files below a folder; follows links, but enters no folder twice."""

    def leave_out(error: OSError) -> None:
        left_out.append((Path(os.fsdecode(error.filename)), str(error.strerror)))

    entered = set()
    for parent, folder_names, file_names in os.walk(folder, onerror=leave_out, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in entered:
            folder_names.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        for name in [name for name in folder_names if name.startswith(".")]:
            folder_names.remove(name)
            left_out.append((Path(parent, name), "hidden"))
        yield from (Path(parent, name) for name in file_names)


def _reason_against(path: Path) -> str | None:
    """Why a file that was come across is left out; None for audio."""
    try:
        if not path.is_file():
            return "not a file" if path.exists() else "a broken link"
    except OSError as error:
        return str(error.strerror)
    if path.name.startswith("._"):
        return "AppleDouble"
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() in AUDIO_SUFFIXES or has_audio(path):
        return None
    return "no audio" if os.access(path, os.R_OK) else "not readable"
