"""Whatever ends a command is one line and an exit code."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from lact_asr_model.errors import UserError, one_line_errors, printable


def exit_code(work: Callable[[], object]) -> int:
    """How a command that does this ends."""
    try:
        with one_line_errors():
            work()
    except SystemExit as exit_:
        return exit_.code
    return 0


def raising(error: BaseException, *notes: str) -> Callable[[], None]:
    for note in notes:
        error.add_note(note)

    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "code", "line"),
    [
        (raising(UserError("a.wav: is\nempty; remove it")), 2, "error: a.wav: is empty; remove it\n"),
        (raising(UserError("a: b"), "3 of 5 are there"), 2, "error: a: b; 3 of 5 are there\n"),
        (raising(KeyboardInterrupt()), 130, "interrupted\n"),
        (raising(KeyboardInterrupt(), "3 of 5 are there"), 130, "interrupted; 3 of 5 are there\n"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, "interrupted\n"),
        (
            raising(OSError(28, "No space left on device", "x.json")),
            2,
            "error: x.json: cannot be written (No space left on device); free some space\n",
        ),
        (
            raising(PermissionError(13, "Permission denied", "a.txt")),
            2,
            "error: a.txt: cannot be used (Permission denied); check the path\n",
        ),
        (raising(UserError("caf\udce9\x1b[2J: no")), 2, "error: caf\\udce9\\x1b[2J: no\n"),
    ],
)
def test_every_end_is_one_line(work, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(work) == code
    assert capsys.readouterr().err == line
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_programming_mistake_stays_visible() -> None:
    with pytest.raises(FileNotFoundError):
        exit_code(raising(FileNotFoundError(2, "No such file or directory")))


def test_a_handler_of_the_program_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("its own"))
    try:
        assert exit_code(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ["its own"]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "日 é \\udce9\n".encode()),
        ("latin-1", b"\\u65e5 \xe9 \\udce9\n"),
        ("ascii", b"\\u65e5 \\xe9 \\udce9\n"),
    ],
)
def test_a_terminal_of_any_encoding_prints_any_name(
    encoding: str, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert exit_code(lambda: print("日 é \udce9")) == 0
    assert stdout.buffer.getvalue() == expected


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        (">/dev/full", 2, "error: output: cannot be written (No space left on device); free some space\n"),
        ("| true", 141, ""),
    ],
)
def test_stdout_that_takes_nothing_is_one_line_and_quiet_at_the_end_of_the_interpreter(
    redirection: str, code: int, message: str
) -> None:
    """What is small is written when the program ends, what is large before; both are tried."""
    for count in (1, 10_000):
        script = (
            "import time; from lact_asr_model.errors import one_line_errors\n"
            f"with one_line_errors(): time.sleep(0.3); print('line\\n' * {count})"
        )
        command = f'"{sys.executable}" -c "{script}" {redirection}; exit ${{PIPESTATUS[0]}}'
        result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (code, message)


def test_printable_text_is_one_line() -> None:
    assert printable("a\tb\nc\x1b[1m 日 \udce9") == "a\\tb\\nc\\x1b[1m 日 \\udce9"
