"""The `adapt` command: one recording before and after adaptation, with the loss of every step and the time."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lact_asr_model.commands.options import (
    add_chunk_option,
    add_model_options,
    add_ttt_options,
    load_model,
    make_ttt_options,
)
from lact_asr_model.errors import UserError, one_line_errors, print_warning
from lact_asr_model.files import is_stream


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. Exits with 2 when an input is bad, and with 1 when only a part of it could be read."""
    parser = argparse.ArgumentParser(description="Show a recording's transcript before and after adapting to it.")
    recording = parser.add_mutually_exclusive_group(required=True)
    recording.add_argument("recording", metavar="FILE", nargs="?", help="the recording")
    recording.add_argument("--audio_file", metavar="FILE", help="the same, as an option")
    add_chunk_option(parser)
    add_ttt_options(parser)
    add_model_options(parser)
    with one_line_errors():
        is_partial = _compare(parser.parse_args(argv))
    if is_partial:
        raise SystemExit(1)


def _compare(arguments: argparse.Namespace) -> bool:
    """Print the comparison; returns whether the recording is damaged and only a part of it was compared."""
    recording = arguments.recording or arguments.audio_file
    if is_stream(Path(recording)):
        raise UserError(f"{recording}: a pipe cannot be read before and after adaptation; write it to a file first")
    model = load_model(arguments)

    from lact_asr_model.recognition.transcriber import Transcriber

    options = make_ttt_options(arguments, model)
    chunk_seconds = arguments.chunk_seconds
    plain = Transcriber(model, device=model.device, chunk_seconds=chunk_seconds)
    adapting = Transcriber(model, ttt_options=options, device=model.device, chunk_seconds=chunk_seconds)
    (before,), (after,) = (list(each.transcribe_files([recording])) for each in (plain, adapting))
    for result in (before, after):
        if result.error is not None:
            raise result.error
    assert before.transcript is not None and after.transcript is not None
    for warning in after.warnings:
        print_warning(warning)

    print(f"recording  {recording} ({before.transcript.duration_seconds:.2f} s)")
    print(f"before     {before.transcript.text}")
    print(f"after      {after.transcript.text}")
    steps = after.transcript.ttt_losses
    losses = ", ".join(f"step {number} {loss:.4f}" for number, loss in enumerate(steps, start=1))
    print(f"loss       {options.loss_type}, before each step: {losses or 'no step taken'}")
    plain_seconds, adapting_seconds = (sum(each.stage_seconds.values()) for each in (plain, adapting))
    print(
        f"time       plain {plain_seconds:.3f} s, adapted {adapting_seconds:.3f} s "
        f"(of which adaptation {adapting.stage_seconds['adaptation']:.3f} s)"
    )
    return after.is_partial
