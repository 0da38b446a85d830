"""Transcriptions as OpenAI's own client asks for them, from a server on loopback."""

import asyncio
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lact_asr_model.recognition.output_formats import format_srt, format_vtt
from lact_asr_model.recognition.transcript import Transcript

REASON = 'the serve extra is not installed: pip install "lact-asr[serve]"'
openai = pytest.importorskip("openai", reason=REASON)
httpx = pytest.importorskip("httpx", reason=REASON)
pytest.importorskip("fastapi", reason=REASON)
pytest.importorskip("async_batcher", reason=REASON)

Alone = Callable[..., Transcript]
BOUNDARY = "a-boundary"


@pytest.fixture
def client(address: str) -> Any:
    return openai.OpenAI(base_url=address, api_key="none is needed", max_retries=0)


def ask(client: Any, path: Path, **fields: Any) -> Any:
    with path.open("rb") as file:
        return client.audio.transcriptions.create(file=file, model="whisper-1", **fields)


def post(address: str, **request: Any) -> Any:
    return httpx.post(f"{address}/audio/transcriptions", timeout=60, **request)


def error_of(response: Any) -> dict[str, Any]:
    """What an error says, in the form that OpenAI's clients read."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    assert "/" not in error["message"], "a path"
    return error


def wav(samples: np.ndarray, format: str = "WAV", sampling_rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sampling_rate, format=format)
    return file.getvalue()


def test_the_official_client_gets_what_the_command_prints(client: Any, recordings: list[Path], alone: Alone) -> None:
    transcript = ask(client, recordings[0])
    assert transcript.text == alone(recordings[0]).text
    assert len(transcript.text) > 20


def test_the_example_of_the_documentation_runs(
    address: str, recordings: list[Path], alone: Alone, capsys: pytest.CaptureFixture[str]
) -> None:
    document = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", document, flags=re.DOTALL)
    exec(code.replace("http://127.0.0.1:8000/v1", address).replace("talk.mp3", str(recordings[1])), {})
    assert capsys.readouterr().out == alone(recordings[1], True).text + "\n"
    assert alone(recordings[1], True).text != alone(recordings[1]).text


def test_words_have_times_and_segments_are_there_by_default(client: Any, recordings: list[Path], alone: Alone) -> None:
    expected = alone(recordings[2])
    transcript = ask(
        client,
        recordings[2],
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="en",
    )
    assert [word.word for word in transcript.words] == expected.text.split()
    assert [word.start for word in transcript.words] == pytest.approx(
        [word.start_seconds for word in expected.words], abs=0.001
    )
    assert transcript.duration == pytest.approx(expected.duration_seconds, abs=0.001)
    assert " ".join(segment.text for segment in transcript.segments) == expected.text
    assert all(segment.avg_logprob <= 0 for segment in transcript.segments)
    plain = ask(client, recordings[2], response_format="verbose_json")
    assert plain.segments == transcript.segments
    assert plain.words is None


def test_subtitles_and_text_are_those_of_transcribe(client: Any, recordings: list[Path], alone: Alone) -> None:
    expected = alone(recordings[3])
    assert ask(client, recordings[3], response_format="srt") == format_srt(expected.words)
    assert ask(client, recordings[3], response_format="vtt") == format_vtt(expected.words)
    assert ask(client, recordings[3], response_format="text") == expected.text + "\n"


def test_a_stream_brings_the_segments_one_by_one(
    client: Any, recordings: list[Path], transcribers: dict[bool, Any], bundled_model: Any, tmp_path: Path
) -> None:
    from lact_asr_model.audio import load_audio

    path = tmp_path / "long.flac"
    soundfile.write(path, np.concatenate([load_audio(path) for path in recordings[:7]]), 16000)
    (expected,) = transcribers[False].transcribe_files(path)
    events = list(ask(client, path, stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == expected.transcript.text
    assert [event.text for event in events if event.type == "transcript.text.done"] == [expected.transcript.text]


def test_requests_at_once_are_answered_as_each_alone(address: str, recordings: list[Path], alone: Alone) -> None:
    questions = [(recordings[5], False), (recordings[6], False), (recordings[8], False), (recordings[5], True)]

    async def ask_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=address, api_key="-", max_retries=0) as client:
            create = client.audio.transcriptions.create
            requests = [
                create(file=path, model="lact-asr", extra_body={"adapt": adapt}) for path, adapt in questions * 2
            ]
            broken = create(file=("a.mp3", b"no audio"), model="lact-asr")
            return await asyncio.gather(*requests, broken, return_exceptions=True)

    *transcripts, broken = asyncio.run(ask_all())
    assert [transcript.text for transcript in transcripts] == [alone(*question).text for question in questions * 2]
    assert isinstance(broken, openai.BadRequestError)
    metrics = httpx.get(address.removesuffix("/v1") + "/metrics").text
    sizes = {line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if not line.startswith("#")}
    assert sizes["lact_asr_batch_segments_sum"] > sizes["lact_asr_batch_segments_count"]


def test_broken_audio_is_one_line_with_status_400(address: str) -> None:
    for content in (b"", b"RIFF", b"not audio at all" * 100, wav(np.zeros(0))):
        response = post(address, files={"file": ("talk.wav", content)}, data={"model": "lact-asr"})
        assert response.status_code == 400
        assert error_of(response)["message"].startswith("file: ")
        assert error_of(response)["param"] == "file"


def test_a_cut_recording_is_transcribed_with_a_warning(address: str, recordings: list[Path], alone: Alone) -> None:
    from lact_asr_model.audio import load_audio

    content = wav(load_audio(recordings[0]))
    response = post(address, files={"file": content[: len(content) // 2]}, data={"model": "lact-asr"})
    assert response.status_code == 200
    words = response.json()["text"].split()
    assert words[1:3] == alone(recordings[0]).text.split()[1:3] and len(words) < len(alone(recordings[0]).text.split())
    (warning,) = response.json()["warnings"]
    assert warning.startswith("file: damaged or cut after ")
    assert response.headers["X-Warning"] == warning


def test_silence_has_no_words(client: Any, address: str) -> None:
    silence = wav(np.zeros(16000))
    assert client.audio.transcriptions.create(file=("a.wav", silence), model="lact-asr").text == ""
    answer = post(address, files={"file": silence}, data={"model": "lact-asr", "response_format": "verbose_json"})
    assert answer.json()["segments"] == []


@pytest.mark.parametrize(
    ("fields", "parameter", "status"),
    [
        ({}, "model", 400),
        ({"model": "gpt-4o"}, "model", 404),
        ({"model": "lact-asr", "language": "de"}, "language", 400),
        ({"model": "lact-asr", "response_format": "xml"}, "response_format", 400),
        ({"model": "lact-asr", "response_format": "srt", "stream": "true"}, "response_format", 400),
        ({"model": "lact-asr", "timestamp_granularities[]": "letter"}, "timestamp_granularities[]", 400),
        ({"model": "lact-asr", "adapt": "perhaps"}, "adapt", 400),
        ({"model": "lact-asr", "beam": "true"}, "beam", 400),
    ],
)
def test_a_wrong_field_is_named(address: str, fields: dict[str, str], parameter: str, status: int) -> None:
    response = post(address, files={"file": wav(np.zeros(1600))}, data=fields)
    assert response.status_code == status
    assert error_of(response)["param"] == parameter


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        f"--{BOUNDARY}\r\n".encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nhalf a f'.encode(),
        f"--{BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\n\xff\r\n--{BOUNDARY}--\r\n'.encode(
            "latin-1"
        ),
    ],
)
@pytest.mark.parametrize("content_type", [f"multipart/form-data; boundary={BOUNDARY}", "multipart/form-data", "text/x"])
def test_malformed_multipart_is_status_400(address: str, body: bytes, content_type: str) -> None:
    response = post(address, content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    error_of(response)


def test_a_server_that_was_insulted_still_answers(client: Any, recordings: list[Path], alone: Alone) -> None:
    assert ask(client, recordings[0]).text == alone(recordings[0]).text


def test_models_are_listed_as_openai_does(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["lact-asr"]
    assert client.models.retrieve("lact-asr").id == "lact-asr"
    with pytest.raises(openai.NotFoundError, match="ask for 'lact-asr'"):
        client.models.retrieve("gpt-4o")


def test_other_paths_are_errors_of_the_same_form(address: str) -> None:
    assert error_of(httpx.get(f"{address}/nothing"))["message"] == "Not Found"
    assert httpx.get(f"{address}/audio/transcriptions").status_code == 405
