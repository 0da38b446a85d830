"""What the commands share that recognise a data set under conditions, or prepare one. Imports nothing heavy."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from lact_asr_model.data.conditions import Condition, parse_conditions
from lact_asr_model.data.sources import SOURCE_HELP
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.tasks import Task, make_tasks


def add_data_options(parser: argparse.ArgumentParser, *, max_utterances: int | None = None) -> argparse._ArgumentGroup:
    """Which utterances, and what the conditions need; `max_utterances` is the default."""
    group = parser.add_argument_group("data")
    group.add_argument("--data_dir", metavar="DIR", help="folder of what --subset names")
    group.add_argument("--subset", required=True, help=SOURCE_HELP)
    group.add_argument(
        "--max_utterances",
        type=int,
        default=max_utterances,
        metavar="N",
        help=f"only N utterances, spread evenly over each subset (default: {max_utterances or 'all'})",
    )
    group.add_argument(
        "--normalize", action="store_true", help="spell numbers and symbols of the references out, in English"
    )
    group.add_argument("--noise_dir", metavar="DIR", help="recordings for the condition noise")
    group.add_argument(
        "--impulse_response_dir", metavar="DIR", help="rooms for the condition room (default: synthetic)"
    )
    return group


def add_preparation_options(
    parser: argparse.ArgumentParser, *, subset_help: str, output_help: str
) -> argparse._ArgumentGroup:
    """What to prepare, and the folder that gets it, where a run that was stopped goes on."""
    group = parser.add_argument_group("data")
    group.add_argument("--data_dir", type=Path, metavar="DIR", help="folder of what --subset names")
    group.add_argument("--subset", required=True, help=subset_help)
    group.add_argument("--output_dir", type=Path, required=True, metavar="DIR", help=output_help)
    group.add_argument("--resume", action="store_true", help="go on in the folder of a run that was stopped")
    return group


def add_conditions_in_turn(group: argparse._ArgumentGroup, default: str) -> None:
    """Conditions that the utterances of a development set are heard under."""
    group.add_argument(
        "--conditions",
        default=default,
        metavar="LIST",
        help="the utterances are heard under these in turn, as in `lact-asr evaluate` (default: %(default)s)",
    )


def development_task(arguments: argparse.Namespace) -> tuple[Task, Sequence[Condition]]:
    """The utterances of these options, and the conditions.

    Raises:
        UserError: the set is a test set by its name, cannot be read, or there is no such condition.
    """
    names = ["/".join(Path(name).parts[-2:]) for name in arguments.subset.lower().split("+")]
    if any(re.search(r"(?<![a-z])test(?![a-z])", name) for name in names):
        raise UserError(f"--subset {arguments.subset}: is a test set by its name; tune on a development set")
    if arguments.max_utterances is not None and arguments.max_utterances < 1:
        raise UserError(f"--max_utterances {arguments.max_utterances}: is below 1; give 1 or more")
    conditions = parse_conditions(
        arguments.conditions, noise_dir=arguments.noise_dir, impulse_response_dir=arguments.impulse_response_dir
    )
    (task, *_) = make_tasks(
        conditions,
        arguments.subset,
        data_dir=arguments.data_dir,
        max_utterances=arguments.max_utterances,
        normalize=arguments.normalize,
    )
    return task, conditions
