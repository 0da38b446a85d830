"""Output files: written whole or piece by piece, never in the place of an input, a pipe or somebody else's file."""

import fcntl
import hashlib
import os
import stat
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lact_asr_model.errors import UserError

STANDARD_OUTPUT = "-"
_LONGEST_NAME_BYTES = 255
_SNIFFED_BYTES = 2**16

Identity = tuple[int, int]


def is_standard_output(path: Path) -> bool:
    """Whether the path is a name of stdout, which is then used as it is: a redirection may append to a file."""
    return str(path) in (STANDARD_OUTPUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def is_stream(path: Path) -> bool:
    """Whether the path leads to a pipe, a device or an open file: such a thing is written to in its place."""
    if os.path.abspath(path).startswith(("/dev/fd/", "/dev/std", "/proc/")):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def identities(paths: Iterable[str | Path]) -> dict[Identity, str]:
    """The files that the paths lead to, links followed, with a path of each; what is not there is left out."""
    found: dict[Identity, str] = {}
    for path in paths:
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # ValueError: a name with a zero byte
            continue
        found.setdefault((status.st_dev, status.st_ino), str(path))
    return found


def check_standard_output(inputs: dict[Identity, str]) -> None:
    """Refuse `>> INPUT`. Raises UserError, also when stdout is closed."""
    if sys.stdout is None:
        raise UserError("standard output: is closed; give --output")
    status = os.fstat(1)
    name = inputs.get((status.st_dev, status.st_ino))
    if name is not None and stat.S_ISREG(status.st_mode):
        raise UserError(f"standard output: is the input {name}; send it to another file")


def standard_input() -> BinaryIO:
    """The bytes of stdin. Raises UserError when it is closed."""
    if sys.stdin is None:
        raise UserError("standard input: is closed; connect it, or name files")
    return sys.stdin.buffer


def check_output_file(
    path: Path, inputs: dict[Identity, str], *, overwrite: bool = False, resume: bool = False
) -> None:
    """Find out before the work that a file may not, or cannot, be written.

    An existing file, unless it is empty, needs `overwrite` or `resume`. Nothing allows an input, or in the place of
    text a file that is none.

    Args:
        path: where output is to go; links are followed.
        inputs: what is read, from `identities`.
        overwrite: the user allows an existing file to be replaced.
        resume: the user wants an existing file to be gone on with.

    Raises:
        UserError: it is an input, a folder, an existing file that was not allowed for, or no place for a file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        _check_folder(path)
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    name = inputs.get((status.st_dev, status.st_ino))
    if name is not None:
        same = "" if name == str(path) else f" {name}"
        raise UserError(f"{path}: is the input{same}, which is never written to; name another file")
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: it is a folder; name a file in it")
    if is_stream(path):
        if resume:
            raise UserError(f"{path}: is no file that could be gone on with; leave out --resume")
        return
    if status.st_size and not (overwrite or resume):
        raise UserError(f"{path}: exists; give --overwrite to replace it, --resume to go on with it, or another name")
    if not os.access(path, os.W_OK):
        raise UserError(f"{path}: is write-protected; name another file")
    _check_folder(path)
    if overwrite and not _is_text(path):
        raise UserError(f"{path}: is not a text file, so it is not overwritten; name another file")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that takes the place of `path` when it is complete; a pipe or device is written to.

    Raises:
        UserError: the place cannot be written to, or the disk is full.
    """
    try:
        with complete_file(path) as file:
            file.write(encode(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


@contextmanager
def complete_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path`, flushed to the disk, if the `with` ends without an error.

    Where `path` is a link, that stays and its target is replaced. A pipe or device is written to. Raises OSError.
    """
    if is_stream(path):
        with path.open("ab") as stream:
            yield stream
        return
    target = Path(os.path.realpath(path))
    partial = target.with_name(fitting_name(f".{target.name}", ".partial"))
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


class GrowingFile:
    """A file that grows by pieces of text; each is with the operating system when `append` returns.

    A regular file never ends within a piece, even if the disk is full; only SIGKILL and a power cut can cause that.

    Args:
        path: the file; a pipe or device is written to.
        num_bytes_kept: what is behind so many bytes of a regular file is cut off first.
        num_bytes_known: its size when it was looked at.

    Raises:
        UserError: the file cannot be opened, has another size by now, or another process is writing to it.
    """

    def __init__(self, path: Path, num_bytes_kept: int = 0, num_bytes_known: int | None = None) -> None:
        self._path = path
        self._is_stream = is_stream(path)
        self._num_bytes = num_bytes_kept
        flags = os.O_WRONLY | os.O_APPEND | (0 if self._is_stream else os.O_CREAT)
        try:
            self._descriptor = os.open(path, flags, 0o666)
            self._close = weakref.finalize(self, os.close, self._descriptor)  # also where an error ends the work
            if not self._is_stream:
                self._lock()
            if not self._is_stream and num_bytes_known not in (None, os.fstat(self._descriptor).st_size):
                raise UserError(f"{path}: has changed meanwhile, so it is left alone; is another run writing to it?")
            self._cut()
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from None

    def append(self, text: str) -> None:
        """Write a piece. Raises UserError when the disk is full, BrokenPipeError when the reader of a pipe has gone."""
        rest = memoryview(encode(text))
        num_bytes = self._num_bytes + len(rest)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BaseException as error:
            self._cut()
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise UserError(f"{self._path}: cannot be written ({error.strerror}); free some space") from None
            raise
        self._num_bytes = num_bytes

    def close(self) -> None:
        """No more pieces."""
        self._close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self._path}: another run is writing to it; wait for it, or choose another place"
            ) from None
        except OSError:
            pass  # a file system without locks

    def _cut(self) -> None:
        if not self._is_stream:
            os.ftruncate(self._descriptor, self._num_bytes)


def encode(text: str) -> bytes:
    """UTF-8. A byte of a file name that is not UTF-8 becomes an escape, which JSON reads as that byte again."""
    return text.encode("utf-8", "backslashreplace")


def complete_lines(content: bytes) -> bytes:
    """Without what a kill left of a last line."""
    return content[: content.rfind(b"\n") + 1]


def fitting_name(stem: str, suffix: str) -> str:
    """A name of a file; a stem too long for the file system ends in a checksum instead."""
    if len(os.fsencode(stem + suffix)) <= _LONGEST_NAME_BYTES:
        return stem + suffix
    ending = f"-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{suffix}"
    return os.fsencode(stem)[: _LONGEST_NAME_BYTES - len(ending)].decode("utf-8", "ignore") + ending


def _check_folder(path: Path) -> None:
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise UserError(f"{path}: its folder does not exist; create {folder}")
    if not os.access(folder, os.W_OK):
        raise UserError(f"{path}: its folder cannot be written to; choose another")


def _is_text(path: Path) -> bool:
    """Text has no zero byte; recordings, archives and weights do."""
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(_SNIFFED_BYTES)
    except OSError:
        return False
