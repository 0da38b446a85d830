"""A server for the page: on this machine alone unless told otherwise, and without a request to anybody else."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lact_asr_model.errors import UserError
from lact_asr_model.serving.server import listen_on, origin_of

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
    with listen_on(host, port) as bound, tempfile.TemporaryDirectory(prefix="lact-asr-") as folder:
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_TEMP_DIR=folder)
        try:
            import fastapi
            import gradio
            import uvicorn
        except ImportError:
            raise UserError('--web: gradio is not installed; run: pip install "lact-asr[web]"') from None
        app = gradio.mount_gradio_app(
            fastapi.FastAPI(),
            make_page(Path(folder)),
            path="/",
            server_name=host,
            server_port=bound.getsockname()[1],
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            show_error=False,
        )
        print(f"The page is at {origin_of(bound)} (Ctrl-C ends it).", flush=True)
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=_LAST_SECONDS)
        uvicorn.Server(config).run(sockets=[bound])
