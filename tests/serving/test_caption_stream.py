"""Live captions of real speech: over a WebSocket with a real client, and from a pipe."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lact_asr_model.audio import load_audio
from lact_asr_model.commands import listen
from lact_asr_model.metrics import word_errors

REASON = 'the serve extra is not installed: pip install "lact-asr[serve]"'
websockets = pytest.importorskip("websockets", reason=REASON)
pytest.importorskip("fastapi", reason=REASON)
pytest.importorskip("async_batcher", reason=REASON)

from websockets.sync.client import connect  # noqa: E402


@pytest.fixture(scope="module")
def pcm(recordings: list[Path]) -> bytes:
    """Two short recordings as raw audio."""
    samples = np.concatenate([load_audio(recordings[5]), load_audio(recordings[6])])
    return np.round(samples * 32767).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def stream_address(serving: Callable[..., Any]) -> Any:
    with serving(token="a secret", max_streams=1) as address:
        yield address.replace("http", "ws") + "/captions"


def open_stream(address: str, token: str = "a secret") -> Any:
    return connect(address, additional_headers={"Authorization": f"Bearer {token}"}, open_timeout=60)


def test_words_become_stable_while_one_speaks(
    stream_address: str, pcm: bytes, recordings: list[Path], alone: Callable[..., Any]
) -> None:
    with open_stream(stream_address) as stream:
        for start in range(0, len(pcm), 3333):
            stream.send(pcm[start : start + 3333])
        stream.send('{"type": "end"}')
        messages = [json.loads(message) for message in stream]
    *captions, end = messages
    assert {message["type"] for message in captions} == {"captions"}
    assert end["type"] == "end"
    words = [word for message in captions for word in message["stable"]]
    assert " ".join(word["word"] for word in words) == end["text"]
    assert captions[-1]["tail"] == ""
    assert sum(bool(message["stable"]) for message in captions) > 1
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    whole = f"{alone(recordings[5]).text} {alone(recordings[6]).text}"
    assert word_errors(whole, end["text"]).rate < 0.4


def test_what_is_no_audio_is_told(stream_address: str) -> None:
    with open_stream(stream_address) as stream:
        stream.send("hello")
        assert json.loads(stream.recv())["error"]["code"] == "invalid_message"
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            stream.recv()
        assert closed.value.rcvd.code == 1008


def test_there_are_only_so_many_streams(stream_address: str) -> None:
    with open_stream(stream_address) as first:
        first.send(bytes(2))
        with open_stream(stream_address) as second:
            assert json.loads(second.recv())["error"]["code"] == "server_busy"
        first.send('{"type": "end"}')
        assert json.loads(list(first)[-1]) == {"type": "end", "text": ""}
    with open_stream(stream_address) as third:
        third.send('{"type": "end"}')
        assert json.loads(list(third)[-1])["type"] == "end"


def test_captions_need_the_token_too(stream_address: str) -> None:
    with pytest.raises(websockets.InvalidStatus, match="403"):
        open_stream(stream_address, "another")


def test_listen_prints_the_words_of_a_pipe(
    pcm: bytes, recordings: list[Path], alone: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(pcm))))  # type: ignore[arg-type]
    listen.main(["--num_threads", "1"])
    printed = " ".join(capsys.readouterr().out.split())
    assert word_errors(f"{alone(recordings[5]).text} {alone(recordings[6]).text}", printed).rate < 0.4


def test_a_microphone_needs_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SystemExit) as exit_:
        listen.main(["--microphone"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        'error: --microphone: needs the microphone extra; run `pip install "lact-asr[microphone]"`\n'
    )
