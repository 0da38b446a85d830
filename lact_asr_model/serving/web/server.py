"""A server for the page: on this machine alone unless told otherwise, and without a request to anybody else."""

import errno
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError

_LAST_SECONDS = 2  # for what is still being answered when the server ends


def serve(make_page: Callable[[Path], Any], host: str, port: int) -> None:
    """Serve a page until Ctrl-C. What visitors upload is deleted at the end.

    Args:
        make_page: makes the `gradio.Blocks`, after it is clear that they can be served; is given a folder for files to
            download.
        host, port: where; port 0 is any that is free.

    Raises:
        UserError: gradio is not installed, the port is taken, or the address is not this machine's.
    """
    with _bound_socket(host, port) as bound, tempfile.TemporaryDirectory(prefix="lact-asr-") as folder:
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_TEMP_DIR=folder)
        try:
            import fastapi
            import gradio
            import uvicorn
        except ImportError:
            raise UserError('--web: gradio is not installed; run: pip install "lact-asr[web]"') from None
        number = bound.getsockname()[1]
        app = gradio.mount_gradio_app(
            fastapi.FastAPI(),
            make_page(Path(folder)),
            path="/",
            server_name=host,
            server_port=number,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            show_error=False,
        )
        print(f"The page is at http://{host}:{number} (Ctrl-C ends it).", flush=True)
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=_LAST_SECONDS)
        uvicorn.Server(config).run(sockets=[bound])


def _bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises UserError."""
    try:
        return socket.create_server((host, port))
    except OverflowError:
        raise UserError(f"--port {port}: is not from 0 to 65535; the default is 7860") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: is taken by another program; give another, such as {port + 1}") from None
        raise UserError(f"--host {host}, --port {port}: cannot be used ({error.strerror}); give others") from None
