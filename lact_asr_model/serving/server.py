"""An application on a socket."""

import logging
import socket
from typing import TYPE_CHECKING

from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to; port 0 is any free one. Raises UserError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise UserError(f"--host {host} --port {port}: cannot be listened on ({reason}); give others") from None


def origin_of(listening: socket.socket) -> str:
    """Where it listens, as the beginning of an address."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def address_of(listening: socket.socket) -> str:
    """Where the service is, as clients give it."""
    return f"{origin_of(listening)}/v1"


def make_server(app: "ASGIApp") -> "uvicorn.Server":
    """What runs the service: `run(sockets=[...])` serves until SIGTERM or Ctrl-C, and finishes what was begun."""
    import uvicorn

    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what clients send wrong, they are told
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws_max_size=1_000_000)
    return uvicorn.Server(config)
