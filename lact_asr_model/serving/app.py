"""The routes of the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, File, Form, Request, Response, UploadFile, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp

from lact_asr_model.recognition.transcriber import join_segments
from lact_asr_model.recognition.transcript import Transcript
from lact_asr_model.serving.answers import Format, answer, delta_event, done_event, error_event
from lact_asr_model.serving.api_errors import ApiError, answer_errors_as_json
from lact_asr_model.serving.batching import Manner
from lact_asr_model.serving.caption_stream import stream_captions
from lact_asr_model.serving.gate import Gate
from lact_asr_model.serving.service import Service
from lact_asr_model.serving.uploads import Recording, kept

_CLIENT_WENT_AWAY = 499


def make_app(service: Service, token: str | None = None) -> ASGIApp:
    """The application of a service; with a token, only for those who send it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.recognizer.stop()

    app = FastAPI(
        title="lact-asr", lifespan=lifespan, docs_url=None, redoc_url=None
    )  # their pages load foreign scripts
    answer_errors_as_json(app)
    _add_routes(app, service)
    return Gate(app, service.limits, token, service.metrics)


def _add_routes(app: FastAPI, service: Service) -> None:
    model = {"id": service.model_name, "object": "model", "created": 0, "owned_by": "lact-asr"}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    async def show_model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return model

    @app.websocket("/v1/captions")
    async def caption(socket: WebSocket) -> None:
        await stream_captions(socket, service)

    async def kept_recording(file: Annotated[UploadFile, File()]) -> AsyncIterator[Recording]:
        async with kept(file, service.limits) as recording:
            yield recording  # until the answer is sent

    @app.post("/v1/audio/transcriptions", response_model=None)
    async def transcribe(
        request: Request,
        recording: Annotated[Recording, Depends(kept_recording)],
        model: Annotated[str, Form()],
        language: Annotated[str | None, Form()] = None,
        response_format: Annotated[Format, Form()] = "json",
        granularities: Annotated[
            list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]")
        ] = None,
        stream: Annotated[bool, Form()] = False,
        adapt: Annotated[bool | None, Form()] = None,
        beam: Annotated[bool | None, Form()] = None,
    ) -> Response:
        service.check_model(model)
        service.check_language(language)
        manner = service.manner(adapt, beam)
        if stream:
            if response_format not in ("json", "text"):
                raise ApiError(
                    400,
                    f"response_format {response_format!r}: cannot be streamed; give 'json'",
                    None,
                    "response_format",
                )
            return StreamingResponse(_events(service, recording, manner), media_type="text/event-stream")
        parts: list[tuple[float, Transcript]] = []
        async for part in service.transcripts(recording, manner):
            parts.append(part)
            if await request.is_disconnected():
                raise ApiError(_CLIENT_WENT_AWAY, "the client went away")
        return answer(
            join_segments(parts), response_format, granularities or (), service.language or "", recording.warnings
        )


async def _events(service: Service, recording: Recording, manner: Manner) -> AsyncIterator[str]:
    parts: list[tuple[float, Transcript]] = []
    try:
        async for part in service.transcripts(recording, manner):
            text = part[1].text
            if text:
                has_more = any(transcript.text for _, transcript in parts)
                yield delta_event(f" {text}" if has_more else text)
            parts.append(part)
        yield done_event(join_segments(parts).text, recording.warnings)
    except ApiError as error:
        yield error_event(error.content())
