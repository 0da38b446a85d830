"""Live captions over a WebSocket: raw audio in, words out."""

import asyncio
import json
from contextlib import suppress

from fastapi import WebSocket, WebSocketDisconnect

from lact_asr_model.errors import UserError
from lact_asr_model.serving.answers import timed
from lact_asr_model.serving.api_errors import ApiError
from lact_asr_model.serving.batching import Manner
from lact_asr_model.serving.caption_window import CaptionWindow
from lact_asr_model.serving.pcm import PcmDecoder
from lact_asr_model.serving.service import Service

_REFUSED, _TRY_AGAIN_LATER = 1008, 1013  # codes of RFC 6455 and its registry
_MESSAGES = 64  # that wait; then the client has to

Message = bytes | None | Exception


async def stream_captions(socket: WebSocket, service: Service) -> None:
    """Serve one client until it sends `{"type": "end"}`, goes away, or breaks a limit."""
    await socket.accept()
    with suppress(WebSocketDisconnect):
        try:
            if service.num_streams >= service.limits.max_streams:
                raise ApiError(429, "there are as many live captions as this server takes; try later", "server_busy")
            service.num_streams += 1
            try:
                with service.metrics.streams.track_inprogress():
                    await _caption(socket, service)
            finally:
                service.num_streams -= 1
            await socket.close()
        except ApiError as error:
            await socket.send_json({"type": "error", **error.content()})
            await socket.close(_TRY_AGAIN_LATER if error.status_code == 429 else _REFUSED)


async def _caption(socket: WebSocket, service: Service) -> None:
    window = CaptionWindow()
    decoder = PcmDecoder()
    manner = Manner(adapt=False, beam=service.default_manner.beam)
    max_seconds = service.limits.max_stream_seconds
    text: list[str] = []

    async def send_captions(*, is_last: bool = False) -> None:
        try:
            transcript = await service.recognizer.recognize(window.samples, manner)
        except UserError as error:
            raise ApiError(503, str(error), "out_of_memory") from None
        captions = window.take(transcript.words, is_last=is_last)
        text.extend(word.word for word in captions.stable)
        tail = " ".join(word.word for word in captions.tail)
        await socket.send_json({"type": "captions", "stable": [timed(word) for word in captions.stable], "tail": tail})

    messages: asyncio.Queue[Message] = asyncio.Queue(_MESSAGES)
    receiving = asyncio.create_task(_receive(socket, messages, service.limits.timeout_seconds))
    try:
        while (piece := await _next_piece(messages)) is not None:
            samples = decoder.decode(piece)
            while len(samples):
                samples = window.append(samples)
                if window.end_seconds > max_seconds:
                    raise ApiError(413, f"the stream is longer than {max_seconds:g} s; begin another", "too_long")
                if window.is_due:
                    await send_captions()
        await send_captions(is_last=True)
        await socket.send_json({"type": "end", "text": " ".join(text)})
    finally:
        receiving.cancel()


async def _next_piece(messages: asyncio.Queue[Message]) -> bytes | None:
    """All audio that has arrived, or waits for some; None = the client has sent all. Raises what ended the stream."""
    message = await messages.get()
    pieces = []
    while isinstance(message, bytes):
        pieces.append(message)
        if messages.empty():
            return b"".join(pieces)
        message = messages.get_nowait()
    if isinstance(message, Exception):
        raise message
    if pieces:
        messages.put_nowait(None)  # for the next call
    return b"".join(pieces) if pieces else None


async def _receive(socket: WebSocket, messages: asyncio.Queue[Message], timeout_seconds: float) -> None:
    """Pass on the audio of a client, then None, or the reason why there is no more."""
    try:
        while (piece := await asyncio.wait_for(_receive_piece(socket), timeout_seconds)) is not None:
            await messages.put(piece)
        await messages.put(None)
    except TimeoutError:
        await messages.put(ApiError(408, f"nothing arrived for {timeout_seconds:g} s", "timeout"))
    except (ApiError, WebSocketDisconnect) as error:
        await messages.put(error)


async def _receive_piece(socket: WebSocket) -> bytes | None:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    if message.get("bytes") is not None:
        return message["bytes"]
    try:
        if json.loads(message["text"])["type"] == "end":
            return None
    except (ValueError, KeyError, TypeError):
        pass
    raise ApiError(400, 'a text message is not {"type": "end"}; send audio as binary messages', "invalid_message")
