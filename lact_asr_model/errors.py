"""Errors that a user can correct, and how every command shows them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Bad input of a user: the message is one line that names the thing and the remedy.

    Every command prints the message and exits with code 2; library callers can catch it as a ValueError.
    """


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's error into one line and exit code 2, Ctrl-C into 130, and a closed pipe into a quiet end."""
    try:
        yield
    except UserError as error:
        print_error(error)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        raise SystemExit(141) from None


def print_note(note: str) -> None:
    """One line on stderr about something that the user may not expect."""
    print(f"note: {note}", file=sys.stderr, flush=True)


def print_error(error: UserError) -> None:
    """One line on stderr."""
    _print_line("error", str(error))


def print_warning(warning: str) -> None:
    """One line on stderr about something that a user should know, though the work goes on."""
    _print_line("warning", warning)


def _print_line(kind: str, text: str) -> None:
    """A line that any terminal can show: names of files need not be valid text, nor without line breaks."""
    line = f"{kind}: {' '.join(text.split())}"
    encoding = sys.stderr.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True)
