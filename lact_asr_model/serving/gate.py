"""Who may enter: the token, the number of requests, and the bytes and seconds of their bodies."""

import asyncio
import hmac
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lact_asr_model.serving.api_errors import ApiError
from lact_asr_model.serving.limits import Limits
from lact_asr_model.serving.service_metrics import ServiceMetrics

_OPEN_PATH = "/health"


class Gate:
    """ASGI middleware that answers what may not enter before its body is read.

    Args:
        app: the application behind.
        limits: see there.
        token: what `Authorization: Bearer` has to bring; None = nothing.
        metrics: where answers are counted.
    """

    def __init__(self, app: ASGIApp, limits: Limits, token: str | None, metrics: ServiceMetrics) -> None:
        self.app = app
        self.limits = limits
        self.token = token
        self.metrics = metrics
        self._num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] == _OPEN_PATH:
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            if self._has_token(scope):
                return await self.app(scope, receive, send)
            return await send({"type": "websocket.close", "code": 1008})  # before it was accepted: status 403
        if scope["method"] != "POST":
            return await self._answer(scope, receive, send)
        if self._num_requests >= self.limits.max_requests:
            error = ApiError(429, "the server is busy; try again later", "server_busy", headers={"Retry-After": "1"})
            return await self._refuse(error, scope, receive, send)
        self._num_requests += 1
        try:
            with self.metrics.requests.track_inprogress(), self.metrics.answer_seconds.time():
                await self._answer(scope, _Body(receive, self.limits).receive, send)
        finally:
            self._num_requests -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._has_token(scope):
            error = ApiError(
                401, "the token is missing or wrong; send `Authorization: Bearer TOKEN`", "invalid_api_key"
            )
            return await self._refuse(error, scope, receive, send)
        num_bytes = Headers(scope=scope).get("content-length", "0")
        if num_bytes.isdecimal() and int(num_bytes) > self.limits.max_bytes:
            return await self._refuse(_too_many_bytes(self.limits), scope, receive, send)

        async def counting_send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.metrics.answers.labels(message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counting_send)

    async def _refuse(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        self.metrics.answers.labels(error.status_code).inc()
        await error.response()(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        given = Headers(scope=scope).get("authorization", "")
        return self.token is None or hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode())


class _Body:
    """The body of a request on its way in."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._num_bytes = 0
        self._is_complete = False
        self._deadline_seconds = time.monotonic() + limits.timeout_seconds

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()  # waits for the client to go away
        try:
            async with asyncio.timeout(self._deadline_seconds - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            seconds = self._limits.timeout_seconds
            raise ApiError(408, f"the request did not arrive within {seconds:g} s; send it again", "timeout") from None
        self._num_bytes += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._num_bytes > self._limits.max_bytes:
            raise _too_many_bytes(self._limits)
        return message


def _too_many_bytes(limits: Limits) -> ApiError:
    megabytes = limits.max_bytes / 1e6
    return ApiError(413, f"the request has more than {megabytes:g} MB; cut or compress the recording", "too_large")
