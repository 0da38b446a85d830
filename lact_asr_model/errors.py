"""How every command ends: errors that a user can correct, interruptions, full disks and closed pipes."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class UserError(ValueError):
    """Bad input of a user: the message is one line that names the thing and the remedy.

    Every command prints the message and exits with code 2; library callers can catch it as a ValueError.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Run a command inside: whatever ends it is one line on stderr and an exit code.

    A user's error, a file that cannot be used and a full disk are 2, Ctrl-C is 130, SIGTERM 143; a closed pipe is a
    quiet 141. Notes of an error or an interruption (`add_note`) are a part of its line. What stdout cannot encode is
    printed as an escape.
    """
    _allow_every_character()
    try:
        with _sigterm_raised():
            try:
                yield
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
    except UserError as error:
        print_error(error)
        raise SystemExit(2) from None
    except KeyboardInterrupt as interruption:
        _print_line(_with_notes("interrupted", interruption))
        number = signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT
        raise SystemExit(128 + number) from None
    except BrokenPipeError:
        _drop_unwritten_output()
        raise SystemExit(141) from None
    except OSError as error:
        if error.errno in _FULL_DISK:
            _drop_unwritten_output()
            place = error.filename or "output"
            print_error(UserError(f"{place}: cannot be written ({error.strerror}); free some space"))
        elif error.filename is not None:
            print_error(UserError(f"{os.fsdecode(error.filename)}: cannot be used ({error.strerror}); check the path"))
        else:
            raise
        raise SystemExit(2) from None


def print_note(note: str) -> None:
    """One line on stderr about something that the user may not expect."""
    _print_line(f"note: {note}")


def print_warning(warning: str) -> None:
    """One line on stderr about something that a user should know, though the work goes on."""
    _print_line(f"warning: {' '.join(warning.split())}")


def print_error(error: UserError) -> None:
    """One line on stderr."""
    _print_line("error: " + _with_notes(" ".join(str(error).split()), error))


@contextmanager
def silenced_stderr() -> Iterator[None]:
    """Inside, nothing reaches stderr from libraries that write to the file descriptor itself."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def printable(text: str) -> str:
    """The text on one line: control characters, and bytes of file names that are not UTF-8, as escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _with_notes(message: str, error: BaseException) -> str:
    return "; ".join([message, *getattr(error, "__notes__", [])])


def _print_line(line: str) -> None:
    with suppress(OSError):  # nobody can be told that stderr is full or closed
        print(printable(line), file=sys.stderr, flush=True)


def _allow_every_character() -> None:
    """Names of files can hold anything: no terminal or locale shall end the work."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        with suppress(OSError, AttributeError):  # it was read from already, or is no stream of text, or closed
            stream.reconfigure(errors=errors)  # type: ignore[union-attr]


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`, unless the program has other plans for it."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    is_ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _drop_unwritten_output() -> None:
    """Or the interpreter tries again at its end, and complains."""
    with suppress(OSError, AttributeError):  # AttributeError: there is no stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
