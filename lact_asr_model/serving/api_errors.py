"""Errors of the service, in the format of OpenAI's API."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(HTTPException):
    """A request that is not answered: an HTTP status and one line that says why, and what would help.

    code: for programs. parameter: the field that is wrong.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        parameter: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, " ".join(message.split()), headers)
        self.code = code
        self.parameter = parameter

    def content(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = _TYPES.get(self.status_code, "server_error" if self.status_code >= 500 else "invalid_request_error")
        return {"error": {"message": self.detail, "type": kind, "param": self.parameter, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.content(), self.status_code, self.headers)


@asynccontextmanager
async def no_longer_than(seconds: float, spent_seconds: float = 0.0) -> AsyncIterator[None]:
    """Raises ApiError when what is awaited inside takes longer, together with what was spent before."""
    try:
        async with asyncio.timeout(seconds - spent_seconds):
            yield
    except TimeoutError:
        again = {"x-should-retry": "false"}  # a header of OpenAI's clients
        raise ApiError(
            503, f"the answer took longer than {seconds:g} s; send less audio, or try later", "timeout", headers=again
        ) from None


def answer_errors_as_json(app: FastAPI) -> None:
    """Every error of the application in this format; one that nobody foresaw is logged, and tells nothing."""

    @app.exception_handler(HTTPException)
    async def answer_http_error(request: Request, error: HTTPException) -> JSONResponse:
        if not isinstance(error, ApiError):
            error = ApiError(error.status_code, str(error.detail), headers=error.headers)
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def answer_wrong_field(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = str(first["loc"][-1]) if len(first["loc"]) == 2 else str(first["loc"][1])
        return ApiError(400, f"{name}: {first['msg']}", "invalid_value", name).response()

    @app.exception_handler(Exception)
    async def answer_unforeseen_error(request: Request, error: Exception) -> JSONResponse:
        return ApiError(500, "the server made a mistake; its log has the details").response()
