"""The `serve` command: recognition over HTTP, in the format of OpenAI's audio API."""

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.commands.options import (
    add_chunk_option,
    add_decoding_options,
    add_model_options,
    add_ttt_options,
    load_model,
    make_ttt_options,
    start_decoder,
    wants_adaptation,
)
from lact_asr_model.errors import UserError, one_line_errors, print_note, print_warning

if TYPE_CHECKING:
    from lact_asr_model.serving.service import Service

TOKEN_VARIABLE = "LACT_ASR_TOKEN"
_BUNDLED_NAME = "lact-asr"
_LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command until SIGTERM or Ctrl-C."""
    arguments = make_parser().parse_args(argv)
    with one_line_errors():
        _serve(arguments)


def make_parser() -> argparse.ArgumentParser:
    """The options of the service."""
    parser = argparse.ArgumentParser(
        description="Serve recognition over HTTP: POST /v1/audio/transcriptions as OpenAI's clients send it, and live "
        "captions on the WebSocket /v1/captions. Needs the serve extra."
    )
    service = parser.add_argument_group("service")
    service.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    service.add_argument("--port", type=int, default=8000, metavar="N", help="default: 8000; 0 is any free one")
    service.add_argument(
        "--token", help=f"what clients must send as their API key (default: the environment variable {TOKEN_VARIABLE})"
    )
    service.add_argument("--max_megabytes", type=float, default=25.0, metavar="N", help="largest request (default: 25)")
    service.add_argument(
        "--max_seconds", type=float, default=3600.0, metavar="S", help="longest recording (default: 3600)"
    )
    service.add_argument(
        "--max_requests", type=int, default=64, metavar="N", help="requests at once; more get status 429 (default: 64)"
    )
    service.add_argument(
        "--timeout_seconds", type=float, default=600.0, metavar="S", help="longest time for an answer (default: 600)"
    )
    service.add_argument("--max_streams", type=int, default=4, metavar="N", help="live captions at once (default: 4)")

    recognition = parser.add_argument_group("recognition")
    recognition.add_argument(
        "--use_ttt",
        action=argparse.BooleanOptionalAction,
        help="adapt to each recording unless the request has adapt=false; --no-use_ttt: only if it has adapt=true "
        "(default: what the checkpoint's enable_ttt says)",
    )
    recognition.add_argument("--batch_size", type=int, default=8, metavar="N", help="segments at once (default: 8)")
    add_chunk_option(recognition)
    add_decoding_options(parser)
    add_ttt_options(parser)
    add_model_options(parser)
    return parser


def _serve(arguments: argparse.Namespace) -> None:
    try:
        from lact_asr_model.serving.app import make_app
        from lact_asr_model.serving.server import address_of, listen_on, make_server
    except ModuleNotFoundError as error:
        if str(error.name).startswith("lact_asr_model"):
            raise
        raise UserError('the service needs the serve extra; run `pip install "lact-asr[serve]"`') from None

    token = arguments.token or os.environ.get(TOKEN_VARIABLE) or None
    with listen_on(arguments.host, arguments.port) as listening:
        service = make_service(arguments)
        print_note(f"serving {service.model_name} on {address_of(listening)}")
        if token is None and arguments.host not in _LOOPBACK_HOSTS:
            print_warning("everyone who can reach this machine can use it; give a --token")
        make_server(make_app(service, token)).run(sockets=[listening])


def make_service(arguments: argparse.Namespace) -> "Service":
    """Load the model, and prepare it for all manners of recognition. Raises UserError."""
    from lact_asr_model.recognition.transcriber import Transcriber
    from lact_asr_model.serving.batching import BatchedRecognizer, Manner
    from lact_asr_model.serving.limits import Limits
    from lact_asr_model.serving.service import Service
    from lact_asr_model.serving.service_metrics import ServiceMetrics

    if not 0 < arguments.max_megabytes < math.inf:
        raise UserError(f"--max_megabytes {arguments.max_megabytes}: is not a positive number; leave it out for 25")
    limits = Limits(
        max_bytes=round(arguments.max_megabytes * 1e6),
        max_seconds=arguments.max_seconds,
        max_requests=arguments.max_requests,
        timeout_seconds=arguments.timeout_seconds,
        max_streams=arguments.max_streams,
    )
    model = load_model(arguments)
    options = make_ttt_options(arguments, model)
    if options.mode == "continual":
        raise UserError("--ttt_mode continual: requests are no stream; leave it out")
    has_beam = arguments.beam_size > 1
    searching = {adapt: start_decoder(arguments, model, for_adapted=adapt) for adapt in (False, True)}
    transcribers = {
        Manner(adapt, beam): Transcriber(
            model,
            decoder=searching[adapt] if beam else None,
            ttt_options=options if adapt else None,
            device=model.device,
            batch_size=arguments.batch_size,
            chunk_seconds=arguments.chunk_seconds,
        )
        for adapt in (False, True)
        for beam in ((False, True) if has_beam else (False,))
    }
    metrics = ServiceMetrics()
    return Service(
        BatchedRecognizer(transcribers, metrics),
        metrics,
        limits,
        model_name=_name(arguments.checkpoint),
        language=arguments.language or ("en" if arguments.checkpoint is None else None),
        default_manner=Manner(wants_adaptation(arguments, model), has_beam),
        has_beam=has_beam,
        chunk_seconds=arguments.chunk_seconds,
    )


def _name(checkpoint: str | None) -> str:
    """The model's name for clients: an id of the hub as it is, of a path the last part."""
    if checkpoint is None:
        return _BUNDLED_NAME
    path = Path(checkpoint)
    if not path.exists():
        return checkpoint
    return path.resolve().parent.name if path.is_file() else path.resolve().name
