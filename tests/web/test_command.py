"""`lact-asr demo --web` before there is a page: what is missing is one line."""

import builtins
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lact_asr_model.commands.demo import main
from lact_asr_model.serving.server import listen_on, origin_of


def one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = one_line(["--web", "--port", str(port)], capsys)
    assert line == (
        f"error: --host 127.0.0.1 --port {port}: cannot be listened on (Address already in use); give others"
    )
    assert "--port 65536: cannot be listened on" in one_line(["--web", "--port", "65536"], capsys)
    assert one_line(["--web", "--host", "192.0.2.1"], capsys).startswith("error: --host 192.0.2.1 --port 7860: cannot")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_without_gradio_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    if host == "::1" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with listen_on(host, 0) as listening:
        port = listening.getsockname()[1]
        assert origin_of(listening) == f"http://{'[::1]' if host == '::1' else host}:{port}"
    import_module = builtins.__import__

    def without_gradio(name: str, *arguments: Any) -> Any:
        if name == "gradio":
            raise ImportError(name)
        return import_module(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_gradio)
    line = one_line(["--web", "--host", host, "--port", "0"], capsys)
    assert line == 'error: --web: gradio is not installed; run: pip install "lact-asr[web]"'


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--host", "127.0.0.1"]])
def test_an_address_without_the_page_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "add --web" in one_line(arguments, capsys)


def test_the_handlers_and_the_command_do_not_need_gradio() -> None:
    script = (
        "import sys, lact_asr_model.commands.demo, lact_asr_model.serving.web.handlers, "
        "lact_asr_model.serving.web.server, lact_asr_model.serving.web.page\n"
        "print(*sorted({'gradio', 'fastapi', 'uvicorn', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
