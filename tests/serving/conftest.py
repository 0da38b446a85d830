"""A service with the bundled model on loopback, and what its answers must equal."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.recognition.transcriber import Transcriber
from lact_asr_model.recognition.transcript import Transcript

TOKEN = "a secret"


@pytest.fixture(scope="session")
def recordings() -> list[Path]:
    return sorted(RECORDINGS_DIR.glob("*.mp3"))


@pytest.fixture(scope="session")
def bundled_model() -> AcousticModel:
    return load()


@pytest.fixture(scope="session")
def transcribers(bundled_model: AcousticModel) -> dict[bool, Transcriber]:
    """Without and with adaptation."""
    options = bundled_model.default_options
    return {adapt: Transcriber(bundled_model, ttt_options=options if adapt else None) for adapt in (False, True)}


@pytest.fixture(scope="session")
def alone(transcribers: dict[bool, Transcriber]) -> Callable[[Path, bool], Transcript]:
    """`alone(path, adapt)`: the transcript of a recording when nothing else is recognised."""
    known: dict[tuple[Path, bool], Transcript] = {}

    def transcribe(path: Path, adapt: bool = False) -> Transcript:
        if (path, adapt) not in known:
            (result,) = transcribers[adapt].transcribe_files(path)
            assert result.transcript is not None
            known[path, adapt] = result.transcript
        return known[path, adapt]

    return transcribe


@pytest.fixture(scope="session")
def serving(bundled_model: AcousticModel) -> Callable[..., Any]:
    """`with serving(token=..., max_bytes=...) as address`: a service with these limits on a free port."""

    @contextmanager
    def serve(token: str | None = None, batch_size: int = 4, **limits: Any) -> Iterator[str]:
        from lact_asr_model.serving.app import make_app
        from lact_asr_model.serving.batching import BatchedRecognizer, Manner
        from lact_asr_model.serving.limits import Limits
        from lact_asr_model.serving.server import address_of, listen_on, make_server
        from lact_asr_model.serving.service import Service
        from lact_asr_model.serving.service_metrics import ServiceMetrics

        metrics = ServiceMetrics()
        options = bundled_model.default_options
        own = {
            Manner(adapt, False): Transcriber(
                bundled_model, ttt_options=options if adapt else None, batch_size=batch_size
            )
            for adapt in (False, True)
        }
        service = Service(
            BatchedRecognizer(own, metrics), metrics, Limits(**limits), "lact-asr", "en", Manner(False, False), False
        )
        with listen_on("127.0.0.1", 0) as listening:
            server = make_server(make_app(service, token))
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            try:
                yield address_of(listening)
            finally:
                server.should_exit = True
                thread.join(60)
                assert not thread.is_alive()

    return serve


@pytest.fixture(scope="session")
def address(serving: Callable[..., Any]) -> Iterator[str]:
    """A service for everybody, with limits that no test reaches by accident."""
    with serving(max_seconds=60, max_bytes=2_000_000) as address:
        yield address
