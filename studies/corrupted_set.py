"""The command line of the studies that hear a data set under conditions, and what it names."""

import argparse

from lact_asr_model.commands.data_options import add_data_options
from lact_asr_model.data.conditions import parse_conditions
from lact_asr_model.evaluation.tasks import Task, make_tasks


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A model, utterances, and the conditions that all of them are heard under."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="default: the bundled model")
    add_data_options(parser).add_argument("--conditions", default="clean", help="as in `lact-asr evaluate`")
    return parser


def read_tasks(arguments: argparse.Namespace) -> list[Task]:
    """One for each condition, with the same utterances. Raises UserError."""
    conditions = parse_conditions(
        arguments.conditions, noise_dir=arguments.noise_dir, impulse_response_dir=arguments.impulse_response_dir
    )
    return make_tasks(
        conditions,
        arguments.subset,
        data_dir=arguments.data_dir,
        max_utterances=arguments.max_utterances,
        normalize=arguments.normalize,
    )
