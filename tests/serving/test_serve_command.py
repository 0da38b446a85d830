"""`lact-asr serve` in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from lact_asr_model.commands import serve
from lact_asr_model.errors import UserError
from lact_asr_model.recognition.transcript import Transcript

REASON = 'the serve extra is not installed: pip install "lact-asr[serve]"'
httpx = pytest.importorskip("httpx", reason=REASON)
REPOSITORY = Path(__file__).parents[2]
SERVE = [sys.executable, "-m", "lact_asr_model.cli", "serve"]


@pytest.fixture
def process(recordings: list[Path]) -> Iterator[subprocess.Popen[str]]:
    pytest.importorskip("fastapi", reason=REASON)
    environment = os.environ | {serve.TOKEN_VARIABLE: "from the environment"}
    process = subprocess.Popen(
        [*SERVE, "--port", "0", "--num_threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("flags", "adapts"), [([], True), (["--no-use_ttt"], False), (["--use_ttt"], True)])
def test_the_checkpoint_decides_unless_the_flag_does(checkpoint_dir: Path, flags: list[str], adapts: bool) -> None:
    config = json.loads((checkpoint_dir / "config.json").read_text()) | {"enable_ttt": True}
    (checkpoint_dir / "config.json").write_text(json.dumps(config))
    service = serve.make_service(serve.make_parser().parse_args(["--checkpoint", str(checkpoint_dir), *flags]))
    assert service.default_manner.adapt is adapts


@pytest.mark.parametrize("size", ["inf", "nan", "-1"])
def test_a_limit_that_is_no_size_is_told_before_the_model_is_loaded(size: str) -> None:
    with pytest.raises(UserError, match=f"--max_megabytes {float(size)}: is not a positive number"):
        serve.make_service(serve.make_parser().parse_args(["--max_megabytes", size]))


def test_sigterm_finishes_what_was_begun(process: subprocess.Popen[str], recordings: list[Path]) -> None:
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("note: serving lact-asr on http://127.0.0.1:")
    address = line.split()[-1]
    headers = {"Authorization": "Bearer from the environment"}

    def ask() -> httpx.Response:
        return httpx.post(
            f"{address}/audio/transcriptions",
            files={"file": recordings[3].read_bytes()},
            data={"model": "lact-asr", "adapt": "true"},
            headers=headers,
            timeout=120,
        )

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(ask)
        metrics_address = address.removesuffix("/v1") + "/metrics"
        while "lact_asr_requests 1.0" not in httpx.get(metrics_address, headers=headers).text:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
        assert len(answer.result().json()["text"]) > 20
    assert process.wait(30) == 128 + signal.SIGTERM
    assert process.stderr.read() == "interrupted\n"
    with pytest.raises(httpx.ConnectError):
        httpx.get(metrics_address)


def test_a_kill_and_a_restart_bring_errors_but_never_a_wrong_answer(
    recordings: list[Path], alone: Callable[[Path, bool], Transcript]
) -> None:
    pytest.importorskip("fastapi", reason=REASON)
    expected = {path: alone(path, False).text for path in recordings[:4]}
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    is_over = Event()
    outcomes: list[tuple[Path, str | None]] = []  # the text, None where there was no answer

    def keep_asking(path: Path) -> None:
        while not is_over.is_set():
            try:
                response = httpx.post(
                    f"http://127.0.0.1:{port}/v1/audio/transcriptions",
                    files={"file": path.read_bytes()},
                    data={"model": "lact-asr"},
                    timeout=60,
                )
            except httpx.TransportError:
                outcomes.append((path, None))
                time.sleep(0.1)
            else:
                outcomes.append((path, response.json()["text"] if response.status_code == 200 else None))

    def answers() -> int:
        return sum(text is not None for _, text in outcomes)

    def serve_until(num_answers: int) -> None:
        with subprocess.Popen([*SERVE, "--port", str(port), "--num_threads", "1"], stderr=subprocess.PIPE) as process:
            while answers() < num_answers and process.poll() is None:
                time.sleep(0.05)
            process.kill()

    with ThreadPoolExecutor(len(expected)) as threads:
        clients = [threads.submit(keep_asking, path) for path in expected]
        try:
            serve_until(6)
            serve_until(answers() + 6)
        finally:
            is_over.set()
        for client in clients:
            client.result()
    assert {path for path, text in outcomes if text is None}
    assert all(text == expected[path] for path, text in outcomes if text is not None)
    assert answers() >= 12


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fastapi", reason=REASON)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as exit_:
        serve.main(["--port", str(taken.getsockname()[1])])
    assert exit_.value.code == 2
    assert "cannot be listened on (Address already in use); give others" in capsys.readouterr().err


def test_the_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("lact_asr_model.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(SystemExit) as exit_:
        serve.main([])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        'error: the service needs the serve extra; run `pip install "lact-asr[serve]"`\n'
    )


@pytest.mark.parametrize(
    ("checkpoint", "name"), [(None, "lact-asr"), ("facebook/wav2vec2-base", "facebook/wav2vec2-base"), (".", "serving")]
)
def test_clients_see_no_path(checkpoint: str | None, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    assert serve._name(checkpoint) == name
