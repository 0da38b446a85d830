"""Where transcripts go as they are made, and which of them are there already from a run that was stopped."""

import json
import os
import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Protocol

from lact_asr_model.errors import UserError
from lact_asr_model.files import (
    GrowingFile,
    Identity,
    check_output_file,
    check_standard_output,
    complete_file,
    complete_lines,
    encode,
    is_standard_output,
    is_stream,
    write_atomically,
)
from lact_asr_model.recognition.output_formats import SEPARATORS


@dataclass(frozen=True)
class Permission:
    """What may be written: never one of the `inputs`; an existing file only to `overwrite` or to `resume` it."""

    inputs: dict[Identity, str]
    overwrite: bool = False
    resume: bool = False

    def check(self, path: Path) -> None:
        """Raises UserError, as `check_output_file`."""
        check_output_file(path, self.inputs, overwrite=self.overwrite, resume=self.resume)


class Destination(Protocol):
    """A place for the transcripts of numbered recordings.

    place: its name, for people; None = it is gone when it is read. done: the numbers of those that are there.
    """

    place: str | None
    done: set[int]

    def write(self, index: int, text: str) -> None:
        """Take the transcript of a recording. Raises UserError when the disk is full."""
        ...

    def close(self) -> None:
        """No more transcripts."""
        ...


def make_destination(
    output: Path | None, permission: Permission, format_name: str, heads: Sequence[str | None]
) -> Destination:
    """Stdout, or one file for all recordings.

    Args:
        output: None or "-" = stdout.
        permission: to write there.
        format_name: key of `SUFFIXES`.
        heads: how the lines of each recording begin; None for one that has no transcript.

    Raises:
        UserError: the place may not be written to, or holds something else than a part of these transcripts.
    """
    if output is None or is_standard_output(output):
        check_standard_output(permission.inputs)
        if permission.resume:
            raise UserError("--resume: standard output cannot be gone on with; give --output or --output_dir")
        return StandardOutput(format_name)
    permission.check(output)
    if format_name in SEPARATORS:
        return OneFile(output, format_name, heads, resume=permission.resume)
    return ManyFiles(str(output), {0: output}, resume=permission.resume)


class StandardOutput:
    """Prints every transcript at once. JSON stays JSON where stdout is not UTF-8."""

    def __init__(self, format_name: str) -> None:
        self.place: str | None = None
        self.done: set[int] = set()
        encoding = (sys.stdout.encoding or "utf-8").lower().replace("_", "-")
        self._escapes_json = format_name == "jsonl" and encoding not in ("utf-8", "utf8")

    def write(self, index: int, text: str) -> None:
        """Print it."""
        if self._escapes_json:
            text = json.dumps(json.loads(text)) + "\n"
        print(text, end="", flush=True)
        self.done.add(index)

    def close(self) -> None:
        """Nothing is open."""


class ManyFiles:
    """A file of its own for each recording, complete or not there; what is there is done.

    Args:
        place: the name of them all.
        paths: of the recordings by number.
        resume: leave files that are there as they are.

    Raises:
        UserError: a folder cannot be made.
    """

    def __init__(self, place: str, paths: Mapping[int, Path], *, resume: bool) -> None:
        self.place: str | None = place
        self._paths = paths
        self.done: set[int] = {index for index, path in paths.items() if resume and os.path.exists(path)}

    def write(self, index: int, text: str) -> None:
        """Make the file."""
        path = self._paths[index]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent}: cannot be made ({error.strerror}); choose another place") from None
        write_atomically(path, text)
        self.done.add(index)

    def close(self) -> None:
        """Nothing is open."""


class OneFile:
    """A file to whose end every transcript is added in one piece; made when the first one comes, in order when closed.

    `lines` holds what an earlier run wrote, by the number of the recording.

    Args:
        path: the file, pipe or device.
        format_name: key of `SEPARATORS`.
        heads: how the lines of each recording begin; None for one that has no transcript.
        resume: go on with what is in the file.

    Raises:
        UserError: the file holds something else than a part of these transcripts.
    """

    def __init__(self, path: Path, format_name: str, heads: Sequence[str | None], *, resume: bool) -> None:
        self.place: str | None = None if is_stream(path) else str(path)
        self._path = path
        self._file: GrowingFile | None = None
        self.done: set[int] = set()
        self.lines: dict[int, bytes] = {}
        self._num_bytes: dict[int, int] = {}  # of each recording, in the order of the file
        self._num_bytes_known = path.stat().st_size if self.place and path.exists() else 0
        if resume:
            self._find_finished(format_name, heads)

    def write(self, index: int, text: str) -> None:
        """Add it."""
        self._open().append(text)
        self._num_bytes[index] = len(encode(text))
        self.done.add(index)

    def close(self) -> None:
        """Close the file; it is there even if it is empty. Several workers may have finished it in another order.

        Where nothing came, a file that was to be overwritten stays as it is.
        """
        if self._file is None and self.place is not None and not self._num_bytes and self._path.exists():
            return
        self._open().close()
        if self.place is not None and list(self._num_bytes) != sorted(self._num_bytes):
            self._sort()

    def _sort(self) -> None:
        starts = dict(zip(self._num_bytes, accumulate(self._num_bytes.values(), initial=0), strict=False))
        with self._path.open("rb") as unsorted, complete_file(self._path) as file:
            for index in sorted(starts):
                unsorted.seek(starts[index])
                file.write(unsorted.read(self._num_bytes[index]))

    def _open(self) -> GrowingFile:
        if self._file is None:
            self._file = GrowingFile(self._path, sum(self._num_bytes.values()), self._num_bytes_known)
        return self._file

    def _find_finished(self, format_name: str, heads: Sequence[str | None]) -> None:
        """Match the lines of the file to recordings; what a kill left of the last one is cut off when it is opened."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{self._path}: cannot be read ({error.strerror}); choose another place") from None
        waiting: dict[bytes, deque[int]] = defaultdict(deque)
        for index, beginning in enumerate(heads):
            if beginning is not None:
                waiting[encode(beginning)].append(index)
        complete = complete_lines(content)
        for head, piece in _pieces(complete, format_name):
            if not waiting[head]:
                raise self._foreign(f"it holds {piece[:40].decode('utf-8', 'replace')!r}")
            self.lines[waiting[head].popleft()] = piece
        if format_name == "ctm" and self.lines:  # nothing tells whether the last one has all its words
            last, piece = self.lines.popitem()
            waiting[_head(piece, format_name)].appendleft(last)
        torn = content[len(complete) :]
        if torn and not any(
            head and indices and (torn.startswith(head) or head.startswith(torn)) for head, indices in waiting.items()
        ):
            raise self._foreign("its last line has no end")
        self._num_bytes = {index: len(piece) for index, piece in self.lines.items()}
        self.done.update(self.lines)

    def _foreign(self, reason: str) -> UserError:
        return UserError(
            f"{self._path}: is not a part of these transcripts in this format ({reason}); give the inputs and options "
            "that it was made with, or --overwrite"
        )


def _pieces(content: bytes, format_name: str) -> Iterator[tuple[bytes, bytes]]:
    """What every recording has in a file of complete lines, after how it begins."""
    lines = [line + b"\n" for line in content.split(b"\n")[:-1]]
    if format_name == "ctm":  # a line for each word
        for head, group in groupby(lines, lambda line: _head(line, format_name)):
            yield head, b"".join(group)
    else:
        yield from ((_head(line, format_name), line) for line in lines)


def _head(line: bytes, format_name: str) -> bytes:
    """What a line has before recognition begins; nothing if it is the text of a single recording."""
    before, separator, _ = line.partition(SEPARATORS[format_name].encode())
    return before + separator if separator else b""


@contextmanager
def progress_told(destination: Destination | None, num_recordings: int) -> Iterator[None]:
    """What ends the work early says how much of it is kept."""
    try:
        yield
    except (KeyboardInterrupt, UserError) as reason:
        if destination is not None and destination.place is not None and destination.done:
            reason.add_note(
                f"{len(destination.done)} of {num_recordings} transcripts are in {destination.place}; --resume goes on"
            )
        raise
