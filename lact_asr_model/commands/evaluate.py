"""The `evaluate` command: methods against conditions on the same utterances, in one run.

Each recognition is a line of `utterances.jsonl`; a run that was stopped goes on where it was. `results.json` has the
counts, rates and intervals; the Markdown table is printed. Under `torchrun` the processes share out the utterances.
"""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lact_asr_model.commands.data_options import add_data_options
from lact_asr_model.commands.options import (
    add_decoding_options,
    add_model_options,
    add_ttt_options,
    load_model,
    make_decoding_options,
    make_ttt_options,
)
from lact_asr_model.data.conditions import CONDITION_GROUPS, CONDITIONS, PROTOCOL
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.evaluation.methods import METHODS
from lact_asr_model.evaluation.processes import joined_processes
from lact_asr_model.evaluation.summary import BASELINE, format_compact_table, format_table

_METHODS_HELP = f"""\
Methods: {METHODS}.
  none          recognises without adapting
  tent          LayerNorms, entropy, AdamW, 10 steps
  suta          LayerNorms, conv encoder and feature projection, entropy and class confusion, AdamW, 10 steps
  suta_lm       SUTA that stops where a language model finds the text most probable; li_tta: SUTA that also learns what
                beam search with a language model reads; these, and the losses lm and lm_entropy_mcc, need --beam_size
  ttt           Muon steps as the adaptation options say; ttt_front_end adapts what its name says
  continual     the same, but each utterance starts from the weights that the one before it left; under every
                condition they begin anew
NAME:STEPS sets the steps: none,tent,suta:10,ttt_fast_weights:1,ttt_front_end:2. All but continual start each utterance
from the model as it is. All run on any CTC model, also one of Hugging Face such as wav2vec2, HuBERT or WavLM.

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
    data = add_data_options(parser)
    data.add_argument(
        "--extra_subsets",
        metavar="LIST",
        help="NAME=SUBSET, comma-separated: other utterances, recognised as they are, as conditions of these names",
    )
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
        help="print error rates only: a row for each condition, a column a method",
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
    add_decoding_options(parser, in_processes=False)
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

    decoding = make_decoding_options(arguments)

    from lact_asr_model.evaluation.evaluate import Comparison, compare

    comparison = Comparison(
        subset=arguments.subset,
        data_dir=arguments.data_dir,
        extra_subsets=arguments.extra_subsets,
        max_utterances=arguments.max_utterances,
        normalize=arguments.normalize,
        conditions=arguments.conditions,
        noise_dir=arguments.noise_dir,
        impulse_response_dir=arguments.impulse_response_dir,
        babble_dir=arguments.babble_dir,
        methods=arguments.methods,
        steps=arguments.steps,
        baseline=arguments.baseline,
        peer_learning_rate=arguments.peer_learning_rate,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        decoding=decoding if decoding.beam_size > 1 else None,
    )
    if arguments.plots:
        from lact_asr_model.evaluation.plots import load_figure_class

        load_figure_class()  # if it is missing, that is better known before the run
    with joined_processes() as processes:
        model = load_model(arguments)
        options = make_ttt_options(arguments, model)
        results, records = compare(model, comparison, options, arguments.output_dir, processes)
    if results is None:
        return
    summaries, shifted = results["results"], results["mean_of_shifted"]
    if arguments.plots:
        from lact_asr_model.evaluation.plots import draw_plots

        draw_plots(summaries, shifted, records, arguments.output_dir)
    tables = {"": (summaries, shifted)}
    if decoding.beam_size > 1:
        of_beam = results["results_of_beam"], results["mean_of_shifted_of_beam"]
        tables = {"Greedy decoding:\n": tables[""], f"\nBeam search, {decoding.beam_size} hypotheses:\n": of_beam}
    for title, (of_conditions, over_conditions) in tables.items():
        print(title, end="\n" if title else "")
        if arguments.compact:
            rates = ("wer", "cer")
            print(*(format_compact_table(of_conditions, over_conditions, rate) for rate in rates), sep="\n\n")
        else:
            print(format_table(of_conditions + over_conditions))
