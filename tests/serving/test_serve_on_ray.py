"""The service on Ray Serve: its arguments, and in `make test-all` its answers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from lact_asr_model.recognition.transcript import Transcript

pytest.importorskip("fastapi", reason='the serve extra is not installed: pip install "lact-asr[serve]"')
httpx = pytest.importorskip("httpx")
from lact_asr_model.commands import serve_on_ray  # noqa: E402

ADDRESS = "http://127.0.0.1:8000"


def test_arguments_are_those_of_the_command() -> None:
    given = {"num_replicas": "3", "num_gpus": "0.5", "use_ttt": "true", "beam_size": "50", "max_requests": "7"}
    arguments, num_replicas, num_gpus = serve_on_ray._parse(given)
    assert (num_replicas, num_gpus) == (3, 0.5)
    assert (arguments.use_ttt, arguments.beam_size, arguments.max_requests) == (True, 50, 7)
    assert serve_on_ray._parse({"use_ttt": "False"})[0].use_ttt is False


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", "9000", "port: is no argument of the application; `serve start` has --http-host, --http-port"),
        ("beams", "5", "beams: is no argument of the application; see `lact-asr serve --help`"),
        ("use_ttt", "yes", "use_ttt=yes: is not true or false"),
        ("batch_size", "many", "argument --batch_size: invalid int value: 'many'"),
    ],
)
def test_a_wrong_argument_is_one_line(name: str, value: str, message: str) -> None:
    pytest.importorskip("ray", reason='the ray extra is not installed: pip install "lact-asr[ray]"')
    with pytest.raises(click.ClickException) as error:
        serve_on_ray.app({name: value})
    assert error.value.message == message


@pytest.fixture
def application(tmp_path: Path) -> Iterator[None]:
    """As the documentation starts it, with two replicas on a cluster of its own."""
    pytest.importorskip("ray", reason='the ray extra is not installed: pip install "lact-asr[ray]"')
    command = [sys.executable, "-m", "ray.serve.scripts", "run", "lact_asr_model.commands.serve_on_ray:app"]
    environment = os.environ | {"LACT_ASR_TOKEN": "a secret", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "num_replicas=2", "num_threads=1"],
            stdout=log,
            stderr=log,
            env=environment,
            # Ctrl-C is ignored where tests run in the background, and a process inherits that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_replicas_answer_as_the_service_does(
    application: None, recordings: list[Path], alone: Callable[[Path, bool], Transcript]
) -> None:
    deadline_seconds = time.monotonic() + 600
    while time.monotonic() < deadline_seconds:
        try:
            if httpx.get(f"{ADDRESS}/health", timeout=10).text == '{"status":"ok"}':
                break
        except httpx.TransportError:
            pass
        time.sleep(1)
    assert httpx.get(f"{ADDRESS}/v1/models").status_code == 401
    for number, path in enumerate(recordings[:4]):
        answer = httpx.post(
            f"{ADDRESS}/v1/audio/transcriptions",
            files={"file": path.read_bytes()},
            data={"model": "lact-asr", "adapt": str(number == 0)},
            headers={"Authorization": "Bearer a secret"},
            timeout=300,
        )
        assert answer.json() == {"text": alone(path, number == 0).text}
