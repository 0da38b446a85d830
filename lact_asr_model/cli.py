"""The `lact-asr` command: one name in front of the package's programs.

A program parses its own arguments, so that `lact-asr train` and `training/train_hybrid_asr.py` are one and the same.
It is imported when it is called: `lact-asr --help` loads neither torch nor transformers.
"""

import atexit
import gc
import importlib
import sys
from typing import Any

import typer
import typer.core

from lact_asr_model.errors import one_line_errors

PROGRAMS = {
    "demo": ("lact_asr_model.commands.demo", "Transcribe the bundled recordings, clean and in noise."),
    "transcribe": ("lact_asr_model.commands.transcribe", "Transcribe audio files, folders or a test set."),
    "adapt": ("lact_asr_model.commands.adapt", "Show a recording's transcript before and after adapting."),
    "evaluate": ("lact_asr_model.commands.evaluate", "Compare adaptation methods on the same corrupted audio."),
    "serve": ("lact_asr_model.commands.serve", "Serve recognition over HTTP, in OpenAI's format."),
    "listen": ("lact_asr_model.commands.listen", "Show what is said while it is said."),
    "train": ("lact_asr_model.commands.train", "Train a recogniser, or go on training one."),
    "pack-shards": ("lact_asr_model.commands.pack_shards", "Pack a data set into tar files, for data at scale."),
    "split-long": ("lact_asr_model.commands.split_long", "Split long training utterances at pauses."),
    "build-lm": ("lact_asr_model.commands.build_lm", "Build a language model for beam search from text."),
    "tune-lm": ("lact_asr_model.commands.tune_lm", "Find the weights of a language model on a development set."),
    "tune-ttt": ("lact_asr_model.commands.tune_ttt", "Find the options of adaptation for a model."),
    "export": ("lact_asr_model.commands.export", "Write a model for ONNX Runtime, which needs no PyTorch."),
    "info": ("lact_asr_model.commands.info", "Show the size and frame geometry of a model."),
}

app = typer.Typer(
    help="Speech recognition that adapts to each utterance. COMMAND --help lists a command's options.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class _Program(typer.core.TyperCommand):
    """A command whose arguments all reach the program, `--` too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.args = args
        return args


def run_program(name: str, arguments: list[str]) -> None:
    """Run one of `PROGRAMS`: a user's error is one line and exit code 2, Ctrl-C is exit code 130."""
    module, _ = PROGRAMS[name]
    sys.argv[0] = f"lact-asr {name}"  # the name that argparse prints in usage and error lines
    with one_line_errors():
        importlib.import_module(module).main(arguments)


def _register(name: str, summary: str) -> None:
    @app.command(
        name,
        cls=_Program,
        help=summary,
    )
    def command(context: typer.Context) -> None:
        run_program(name, context.args)


for _name, (_, _summary) in PROGRAMS.items():
    _register(_name, _summary)


def main() -> None:
    """Entry point of the `lact-asr` command."""
    atexit.register(_leave_garbage)
    app()


def _leave_garbage() -> None:
    """Spare the end of the process a search for garbage among all that was loaded, which would take half a second.

    Not where Triton is loaded, as by models of transformers: it would report what is left as leaks.
    """
    if "triton" not in sys.modules:
        gc.freeze()


if __name__ == "__main__":
    main()
