"""Who recognises for `transcribe`: this process, or workers on the machines of a Ray cluster."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lact_asr_model.commands.options import ADAPTING, make_transcriber
from lact_asr_model.errors import UserError, print_note
from lact_asr_model.files import is_standard_output, is_stream
from lact_asr_model.recognition.resumption import recognize_pending

if TYPE_CHECKING:
    from lact_asr_model.recognition.ray_workers import RayWorkers
    from lact_asr_model.recognition.transcriber import Transcriber
    from lact_asr_model.recognition.transcript import FileResult

Recognize = Callable[..., "Iterator[tuple[int, FileResult]]"]  # the arguments of `recognize_pending` from `sources` on


def add_ray_options(parser: argparse.ArgumentParser) -> None:
    """Whether more than one machine recognises."""
    group = parser.add_argument_group("many machines (ray extra); all must see the recordings by the same paths")
    group.add_argument(
        "--ray", metavar="ADDRESS", help="of a Ray cluster that shares the work, or auto: the one here; local: none yet"
    )
    group.add_argument(
        "--ray_workers",
        type=int,
        metavar="N",
        help="models at work; more than GPUs share these (default: one for each GPU, or else for every "
        "--num_threads CPUs, 1 if not given)",
    )


def check_ray_options(arguments: argparse.Namespace) -> None:
    """Find contradictions before anything is started. Raises UserError."""
    if arguments.ray is None:
        if arguments.ray_workers is not None:
            raise UserError("--ray_workers: has no effect on one process; add --ray local, or an address")
        return
    if arguments.ray_workers is not None and arguments.ray_workers < 1:
        raise UserError(f"--ray_workers {arguments.ray_workers}: is below 1; give 1 or more")
    if "-" in arguments.paths:
        raise UserError("-: other machines cannot read standard input; leave out --ray, or name a file")
    output = arguments.output
    if arguments.output_dir is None and (output is None or is_standard_output(output) or is_stream(output)):
        raise UserError("--ray: needs a file to go on with if it is stopped; give --output or --output_dir")


@contextmanager
def open_recognizer(arguments: argparse.Namespace) -> "Iterator[tuple[Transcriber | RayWorkers, Recognize]]":
    """What recognises, and its way to recognise what is pending. Raises UserError."""
    if arguments.ray is None:
        transcriber = make_transcriber(arguments)
        yield transcriber, partial(recognize_pending, transcriber)
        return
    from lact_asr_model.recognition.ray_workers import RayWorkers, connected

    with connected(arguments.ray):
        workers = RayWorkers(
            partial(make_transcriber, arguments),
            arguments.ray_workers,
            num_cpus=(arguments.num_threads or 1) + arguments.decoding_processes,
            uses_gpus=arguments.runtime != "onnx" and not str(arguments.device).startswith("cpu"),
        )
        if arguments.use_ttt is None and workers.ttt_options is not None:
            print_note(ADAPTING)
        yield workers, workers.recognize_pending
