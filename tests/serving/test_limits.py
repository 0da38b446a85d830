"""Nobody can use up the server: bytes, seconds, requests, time, and who may ask at all."""

import asyncio
import io
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

REASON = 'the serve extra is not installed: pip install "lact-asr[serve]"'
openai = pytest.importorskip("openai", reason=REASON)
httpx = pytest.importorskip("httpx", reason=REASON)
pytest.importorskip("fastapi", reason=REASON)
pytest.importorskip("async_batcher", reason=REASON)

from lact_asr_model.errors import UserError  # noqa: E402
from lact_asr_model.serving.api_errors import ApiError, no_longer_than  # noqa: E402
from lact_asr_model.serving.batching import BatchedRecognizer, Manner  # noqa: E402
from lact_asr_model.serving.limits import Limits  # noqa: E402
from lact_asr_model.serving.service_metrics import ServiceMetrics  # noqa: E402

PLAIN = Manner(adapt=False, beam=False)


def post(address: str, content: Any, **request: Any) -> Any:
    files = {"file": ("talk.flac", content)}
    return httpx.post(f"{address}/audio/transcriptions", files=files, data={"model": "lact-asr"}, timeout=60, **request)


def flac(samples: np.ndarray, sampling_rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sampling_rate, format="FLAC")
    return file.getvalue()


def test_too_many_bytes_are_refused(address: str) -> None:
    response = post(address, bytes(2_100_000))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


def test_too_many_bytes_are_refused_where_no_length_was_announced(address: str) -> None:
    def body() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(40):
            yield bytes(100_000)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = httpx.post(f"{address}/audio/transcriptions", content=body(), headers=headers, timeout=60)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


@pytest.mark.parametrize("sampling_rate", [1000, 48000, 655350])
def test_a_small_file_with_endless_audio_is_refused_early(address: str, sampling_rate: int) -> None:
    num_samples = 61 * sampling_rate
    bomb = flac(np.zeros((num_samples, 2 if sampling_rate > 1000 else 1), dtype=np.int16), sampling_rate)
    assert len(bomb) < 200_000
    response = post(address, bomb)
    assert response.status_code == 413
    assert response.json()["error"] == {
        "message": "the recording is longer than 60 s; cut it into pieces",
        "type": "invalid_request_error",
        "param": "file",
        "code": "too_long",
    }


def test_only_who_has_the_token_is_answered(serving: Callable[..., Any], recordings: list[Path]) -> None:
    with serving(token="a secret") as address:
        right = openai.OpenAI(base_url=address, api_key="a secret", max_retries=0)
        wrong = openai.OpenAI(base_url=address, api_key="a secre", max_retries=0)
        assert right.audio.transcriptions.create(file=recordings[0], model="whisper-1").text
        with pytest.raises(openai.AuthenticationError, match="token is missing or wrong"):
            wrong.audio.transcriptions.create(file=recordings[0], model="whisper-1")
        root = address.removesuffix("/v1")
        assert httpx.get(f"{root}/health").json() == {"status": "ok"}
        assert [httpx.get(f"{root}{path}").status_code for path in ("/metrics", "/v1/models", "/openapi.json")] == [
            401
        ] * 3


def test_more_requests_than_allowed_are_told_to_come_back(serving: Callable[..., Any], recordings: list[Path]) -> None:
    async def ask(address: str, count: int) -> list[Any]:
        async with openai.AsyncOpenAI(base_url=address, api_key="-", max_retries=0) as client:
            requests = [
                client.audio.transcriptions.create(file=recordings[5], model="whisper-1", extra_body={"adapt": True})
                for _ in range(count)
            ]
            return await asyncio.gather(*requests, return_exceptions=True)

    with serving(max_requests=2) as address:
        answers = asyncio.run(ask(address, 6))
        refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
        assert len(refused) == 4
        assert refused[0].response.headers["Retry-After"] == "1"
        assert len({answer.text for answer in answers if answer not in refused}) == 1
        assert not [answer for answer in asyncio.run(ask(address, 2)) if isinstance(answer, Exception)]


def test_an_answer_that_takes_too_long_is_given_up(serving: Callable[..., Any], recordings: list[Path]) -> None:
    with serving(timeout_seconds=0.2) as address:
        response = httpx.post(
            f"{address}/audio/transcriptions",
            files={"file": recordings[3].read_bytes()},
            data={"model": "lact-asr", "adapt": "true"},
        )
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "timeout"


def test_what_is_told_is_the_limit_and_not_what_was_left_of_it() -> None:
    async def wait() -> None:
        async with no_longer_than(600.0, 599.99):
            await asyncio.sleep(10)

    with pytest.raises(ApiError, match="the answer took longer than 600 s; send less audio, or try later"):
        asyncio.run(wait())


def test_a_client_that_sends_nothing_is_given_up(serving: Callable[..., Any]) -> None:
    with serving(timeout_seconds=0.3) as address:
        host, port = address.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_goes_away_frees_its_place(serving: Callable[..., Any], recordings: list[Path]) -> None:
    with serving(max_requests=1) as address:
        with pytest.raises(httpx.TimeoutException):
            httpx.post(
                f"{address}/audio/transcriptions",
                files={"file": recordings[3].read_bytes()},
                data={"model": "lact-asr", "adapt": "true"},
                timeout=0.3,
            )
        deadline = time.monotonic() + 200
        while (response := post(address, recordings[0].read_bytes())).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert response.status_code == 200


def test_who_waits_no_more_does_not_take_the_others_along(
    transcribers: Any, alone: Any, recordings: list[Path]
) -> None:
    from lact_asr_model.audio import load_audio

    async def run() -> list[str]:
        recognizer = BatchedRecognizer({PLAIN: transcribers[False]}, ServiceMetrics())
        tasks = [asyncio.create_task(recognizer.recognize(load_audio(path), PLAIN)) for path in recordings[:4]]
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        answers = await asyncio.gather(*(tasks[index] for index in (0, 2, 3)))
        await recognizer.stop()
        return [answer.text for answer in answers]

    assert asyncio.run(run()) == [alone(recordings[index]).text for index in (0, 2, 3)]


def test_a_segment_that_cannot_be_recognised_leaves_its_batch_alone(
    transcribers: Any, alone: Any, recordings: Any
) -> None:
    from lact_asr_model.audio import load_audio

    class Choosy:
        batch_size = 4
        num_calls = 0

        def recognize(self, batch: Any) -> Any:
            self.num_calls += 1
            if any(len(samples) == 7 for samples in batch):
                raise UserError("out of memory")
            return transcribers[False].recognize(batch)

    async def run() -> list[Any]:
        recognizer = BatchedRecognizer({PLAIN: Choosy()}, ServiceMetrics())  # type: ignore[dict-item]
        segments = [load_audio(recordings[0]), np.zeros(7, dtype=np.float32), load_audio(recordings[1])]
        answers = await asyncio.gather(
            *(recognizer.recognize(samples, PLAIN) for samples in segments), return_exceptions=True
        )
        await recognizer.stop()
        return answers

    first, bad, last = asyncio.run(run())
    assert (first.text, last.text) == (alone(recordings[0]).text, alone(recordings[1]).text)
    assert isinstance(bad, UserError)


def test_stopping_finishes_what_was_begun(transcribers: Any, recordings: list[Path]) -> None:
    from lact_asr_model.audio import load_audio

    threads = set(threading.enumerate())

    async def run() -> list[Any]:
        recognizer = BatchedRecognizer({PLAIN: transcribers[False]}, ServiceMetrics())
        tasks = [asyncio.create_task(recognizer.recognize(load_audio(path), PLAIN)) for path in recordings[5:8]]
        await asyncio.sleep(0.05)
        await recognizer.stop()
        return await asyncio.gather(*tasks)

    assert all(answer.text for answer in asyncio.run(run()))
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_seconds": float("nan")}, {"timeout_seconds": -1}])
def test_limits_are_positive(limits: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="is not a positive number"):
        Limits(**limits)
