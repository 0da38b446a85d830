"""The `train` command."""

import signal
from collections.abc import Sequence

from lact_asr_model.errors import one_line_errors
from lact_asr_model.training.arguments import parse_arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: exit code 2 for a user's error, 130 for Ctrl-C, 143 for SIGTERM."""
    with one_line_errors():
        arguments = parse_arguments(argv)

        from lact_asr_model.training.trainer import train

        stop_reason = train(arguments)["stop_reason"]
    if stop_reason in signal.Signals.__members__:
        raise SystemExit(128 + signal.Signals[stop_reason])
