"""The `evaluate` command: methods against conditions on the same utterances, in one run.

Each recognition is a line of `utterances.jsonl`; a run that was stopped goes on where it was. `results.json` has the
counts, rates and intervals; the Markdown table is printed. Under `torchrun` the processes share out the utterances.
"""

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lact_asr_model.data.shifts import CONDITION_GROUPS, CONDITIONS, PROTOCOL, parse_conditions
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.evaluation.methods import METHODS, Method, parse_methods
from lact_asr_model.evaluation.processes import Processes, joined_processes, num_processes
from lact_asr_model.evaluation.records import RecordLog
from lact_asr_model.evaluation.summary import BASELINE, format_compact_table, format_table
from lact_asr_model.evaluation.tasks import Task, make_tasks
from lact_asr_model.files import write_atomically
from lact_asr_model.inference.command_line import (
    add_model_options,
    add_ttt_options,
    load_model,
    make_ttt_options,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lact_asr_model.evaluation.recognizers import Recognizer

_METHODS_HELP = f"""\
Methods: {METHODS}.
  none          recognises without adapting
  tent          LayerNorms, entropy, AdamW, 10 steps
  suta          LayerNorms, conv encoder and feature projection, entropy and class confusion, AdamW, 10 steps
  ttt           Muon steps as the adaptation options say; ttt_front_end adapts what its name says
  continual     the same, but each utterance starts from the weights that the one before it left; under every
                condition they begin anew
NAME:STEPS sets the steps: none,tent,suta:10,ttt_fast_weights:1,ttt_front_end:2. All but continual start each utterance
from the model as it is. none, tent and suta also run on a folder of a wav2vec2, HuBERT or similar CTC model.

{textwrap.fill(f"Conditions: {CONDITIONS}; or a group of them: {CONDITION_GROUPS}.", 120)}
  noise:5:rain  draws from the folder rain of --noise_dir, noise:5 from all of it
  room:hall     the impulse response hall of --impulse_response_dir, room one at random
  rooms         every room of --impulse_response_dir, each on its own
  protocol      {" ".join(PROTOCOL[:9])}
                {" ".join(PROTOCOL[9:])}

The mean of shifted conditions, all but clean, gives each condition the same weight, also where --extra_subsets adds
other utterances.

A run that was stopped goes on when it is started again. Several processes share the utterances out:
torchrun --nproc_per_node 4 -m lact_asr_model.cli evaluate ..."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: recognise, write `results.json`, print the table."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compare adaptation methods on the same audio under several conditions.",
        epilog=_METHODS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data_dir", metavar="DIR", help="folder of the LibriSpeech subsets or manifests")
    data.add_argument(
        "--subset",
        required=True,
        help="LibriSpeech subset such as test-clean, .jsonl manifest or Common Voice .tsv; several joined by +",
    )
    data.add_argument(
        "--extra_subsets",
        metavar="LIST",
        help="NAME=SUBSET, comma-separated: other utterances, recognised as they are, as conditions of these names",
    )
    data.add_argument(
        "--max_utterances", type=int, metavar="N", help="only N utterances, spread evenly over each subset"
    )
    data.add_argument("--noise_dir", metavar="DIR", help="recordings for the condition noise")
    data.add_argument("--impulse_response_dir", metavar="DIR", help="rooms for the condition room (default: synthetic)")
    data.add_argument("--babble_dir", metavar="DIR", help="recordings of speech for the condition babble")

    comparison = parser.add_argument_group("comparison")
    comparison.add_argument(
        "--conditions", default="clean", metavar="LIST", help="comma-separated, see below (default: clean)"
    )
    comparison.add_argument(
        "--methods", default="none,ttt", metavar="LIST", help="comma-separated, see below (default: %(default)s)"
    )
    comparison.add_argument(
        "--baseline", default=BASELINE, metavar="METHOD", help="what the others are compared with (default: none)"
    )
    comparison.add_argument(
        "--steps", metavar="LIST", help="such as 1,2,5,10: repeat methods without :STEPS with each of these"
    )
    comparison.add_argument(
        "--peer_learning_rate", type=float, metavar="RATE", help="of tent and suta (default: 2e-5, as published)"
    )
    comparison.add_argument(
        "--batch_size",
        type=int,
        default=1,
        metavar="N",
        help="recordings at once (default: 1, as costs are compared; which tent and suta always take, continual must)",
    )
    comparison.add_argument(
        "--compact",
        action="store_true",
        help="print word error rates only: a row for each condition, a column a method",
    )
    comparison.add_argument("--plots", action="store_true", help="also draw pictures (needs the plots extra)")
    comparison.add_argument(
        "--output_dir",
        type=Path,
        default=Path("results/evaluation"),
        metavar="DIR",
        help="gets utterances.jsonl, settings.json and results.json (default: %(default)s)",
    )
    add_ttt_options(parser)
    add_model_options(parser)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    """Check what was asked for, then do it, alone or beside other processes."""
    for name, least in (("max_utterances", 1), ("batch_size", 1), ("num_threads", 1), ("seed", 0)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: is below {least}; give {least} or more")
    if arguments.ttt_mode is not None:
        raise UserError(f"--ttt_mode {arguments.ttt_mode}: the method says it here; choose ttt or continual")
    methods = parse_methods(arguments.methods, arguments.steps)
    if arguments.baseline != BASELINE and arguments.baseline not in {method.name for method in methods}:
        raise UserError(f"--baseline {arguments.baseline}: is not one of the methods; add it to --methods")
    for method in methods:
        if method.is_stream and arguments.batch_size > 1:
            raise UserError(f"method '{method.name}': takes one utterance at a time; leave out --batch_size")
        if method.is_stream and num_processes() > 1:
            raise UserError(f"method '{method.name}': takes one utterance after the other; run it without torchrun")
    conditions = parse_conditions(
        arguments.conditions,
        noise_dir=arguments.noise_dir,
        impulse_response_dir=arguments.impulse_response_dir,
        babble_paths=[arguments.babble_dir] if arguments.babble_dir else (),
    )
    tasks = make_tasks(
        conditions,
        arguments.subset,
        arguments.extra_subsets,
        data_dir=arguments.data_dir,
        max_utterances=arguments.max_utterances,
    )
    if arguments.plots:
        from lact_asr_model.evaluation.plots import load_figure_class

        load_figure_class()  # if it is missing, that is better known before the run
    with joined_processes() as processes:
        _compare(arguments, methods, tasks, processes)


def _compare(
    arguments: argparse.Namespace, methods: Sequence[Method], tasks: Sequence[Task], processes: Processes
) -> None:
    """Recognise this process's share; the first process then writes and prints what all have found."""
    from lact_asr_model.evaluation.comparison import run, summarize_all, warm_up, weights_digest
    from lact_asr_model.evaluation.hugging_face import is_other_model
    from lact_asr_model.inference.run_description import describe_run

    prepare = _prepare_other if is_other_model(arguments.checkpoint) else _prepare_ours
    recognizers, model, device, ttt_settings = prepare(arguments, methods)
    settings = {
        "checkpoint": arguments.checkpoint or "bundled model",
        "weights_sha256": weights_digest(model),
        "subset": arguments.subset,
        "seed": arguments.seed,
        "batch_size": arguments.batch_size,
        "noise_dir": arguments.noise_dir,
        "impulse_response_dir": arguments.impulse_response_dir,
        "babble_dir": arguments.babble_dir,
        "peer_learning_rate": arguments.peer_learning_rate,
        "ttt": ttt_settings,
    }
    with processes.first_one_first():
        log = RecordLog(arguments.output_dir, settings, processes.rank)
    warm_up(recognizers.values())
    streams = [method.name for method in methods if method.is_stream]
    run(
        recognizers,
        tasks,
        log,
        streams=streams,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        processes=processes,
    )
    processes.wait_for_all()
    if not processes.is_first:
        return
    log.merge()
    summaries, shifted = summarize_all(log, tasks, list(recognizers), arguments.seed, arguments.baseline)
    results = {
        **settings,
        "extra_subsets": arguments.extra_subsets,
        **describe_run(device),
        "num_processes": processes.count,
        "results": summaries,
        "mean_of_shifted": shifted,
    }
    write_atomically(arguments.output_dir / "results.json", json.dumps(results, indent=2) + "\n")
    if arguments.plots:
        from lact_asr_model.evaluation.plots import draw_plots

        records = [
            log[task.name, method, utterance.id]
            for task in tasks
            for method in recognizers
            for utterance in task.utterances
        ]
        draw_plots(summaries, shifted, records, arguments.output_dir)
    if arguments.compact:
        print(*(format_compact_table(summaries, shifted, rate) for rate in ("wer", "cer")), sep="\n\n")
    else:
        print(format_table(summaries + shifted))


_Prepared = tuple[dict[str, "Recognizer"], "nn.Module", "torch.device", dict[str, Any] | None]


def _prepare_ours(arguments: argparse.Namespace, methods: Sequence[Method]) -> _Prepared:
    """The methods by name with a model of this package, the device, and the adaptation options."""
    from lact_asr_model.evaluation.recognizers import make_recognizer

    model, processor, device = load_model(arguments)
    options = make_ttt_options(arguments, model.config)
    recognizers = {
        method.name: make_recognizer(
            method,
            model,
            processor,
            options,
            peer_learning_rate=arguments.peer_learning_rate,
            device=device,
            batch_size=arguments.batch_size,
        )
        for method in methods
    }
    return recognizers, model, device, asdict(options)


def _prepare_other(arguments: argparse.Namespace, methods: Sequence[Method]) -> _Prepared:
    """The methods by name with a CTC model of another kind, and the device."""
    import torch

    from lact_asr_model.evaluation.hugging_face import load_other_model
    from lact_asr_model.evaluation.recognizers import make_single_recognizer
    from lact_asr_model.inference.run_description import choose_device

    if arguments.num_threads is not None:
        torch.set_num_threads(arguments.num_threads)
    device = choose_device(arguments.device)
    model, feature_extractor, vocabulary = load_other_model(arguments.checkpoint)
    recognizers = {
        method.name: make_single_recognizer(
            method,
            model,
            feature_extractor,
            vocabulary,
            peer_learning_rate=arguments.peer_learning_rate,
            device=device,
        )
        for method in methods
    }
    return recognizers, model, device, None
