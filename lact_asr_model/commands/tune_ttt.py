"""The `tune-ttt` command: which weights of a model to move, how far and down which loss, found on a development set."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.adaptation.options import AdaptationOptions, model_options
from lact_asr_model.commands.data_options import add_conditions_in_turn, add_data_options, development_task
from lact_asr_model.commands.options import add_model_options, load_model
from lact_asr_model.errors import UserError, one_line_errors

if TYPE_CHECKING:
    from lact_asr_model.acoustic_models.acoustic_model import AcousticModel

SHARES = (0.003, 0.01, 0.03)
FAST_WEIGHT_STEPS = (0.01, 0.05)
SHOWN = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: race the candidates, compare the winner with no adaptation, write it beside the model."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Find the options of adaptation with the fewest word errors on a development set.",
        epilog="Candidates race by successive halving: all hear a few utterances, the better half twice as many, and "
        "so on. The winner is written as adaptation.json beside the checkpoint, where every command finds it; for a "
        "checkpoint that has no folder, the flags to give are printed.",
    )
    data = add_data_options(parser, max_utterances=64)
    add_conditions_in_turn(data, default="clean,gaussian:0.01,telephone")
    search = parser.add_argument_group("search")
    search.add_argument("--minutes", type=float, default=10.0, metavar="M", help="time to race for (default: 10)")
    search.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="where adaptation.json goes (default: beside the checkpoint)"
    )
    add_model_options(parser)
    return parser


def candidates(model: "AcousticModel") -> Iterator[AdaptationOptions]:
    """What is tried: groups of weights and the usual pair, with several step sizes, numbers of steps and losses."""
    base = replace(model.default_options, mode="episodic")
    groups = model.weight_groups()
    choices: list[dict[str, object]] = []
    if "front_end" in groups:
        last = str(len(groups["front_end"].layers) - 1)
        choices += [
            {"parameters": "front_end", "conv_layers": layers, "front_end_step": share}
            for layers, share in product((last, "all"), SHARES)
        ]
    names = ("norms", "attention", *(("front_end+norms",) if "front_end" in groups else ()))
    choices += [{"parameters": name, "front_end_step": share} for name, share in product(names, SHARES)]
    if "fast_weights" in groups:
        choices += [{"parameters": "fast_weights", "learning_rate": step} for step in FAST_WEIGHT_STEPS]
    for choice, loss_type, steps in product(choices, ("entropy_mcc", "entropy"), (1, 2)):
        yield replace(base, **choice, loss_type=loss_type, steps=steps)  # type: ignore[arg-type]


def _run(arguments: argparse.Namespace) -> None:
    if not arguments.minutes > 0:
        raise UserError(f"--minutes {arguments.minutes}: is not above 0; give at least a few")
    task, conditions = development_task(arguments)
    model = load_model(arguments)
    output_dir = arguments.output_dir or model.folder
    if output_dir is not None and not output_dir.is_dir():
        raise UserError(f"--output_dir {output_dir}: no such folder; create it")

    from tqdm.auto import tqdm

    from lact_asr_model.acoustic_models.tuned_options import write_tuned_options
    from lact_asr_model.data.utterance import load_samples
    from lact_asr_model.evaluation.comparison import corrupt
    from lact_asr_model.evaluation.halving import successive_halving
    from lact_asr_model.metrics import ErrorCounts, paired_bootstrap_interval, word_errors
    from lact_asr_model.recognition.transcriber import Transcriber
    from lact_asr_model.text import normalize_text

    utterances = task.utterances
    recordings = []
    for index, utterance in enumerate(utterances):
        condition = conditions[index % len(conditions)]
        recordings.append(corrupt(load_samples(utterance), condition, utterance.id, arguments.seed))

    def errors_of(options: AdaptationOptions | None, index: int) -> ErrorCounts:
        (transcript,) = Transcriber(model, ttt_options=options, device=model.device).transcribe_samples(
            [recordings[index]]
        )
        return word_errors(utterances[index].text or "", normalize_text(transcript.text))

    plain = [errors_of(None, index) for index in range(len(utterances))]
    tried = list(candidates(model))
    print(
        f"{len(tried)} candidates, {len(utterances)} utterances of {arguments.subset} under {arguments.conditions}; "
        f"without adaptation {sum(plain, ErrorCounts()).rate:.1%} WER",
        flush=True,
    )
    with tqdm(unit="trial", disable=None) as progress:
        ranked = successive_halving(
            tried, errors_of, len(utterances), budget_seconds=60 * arguments.minutes, on_trial=progress.update
        )
    if not ranked:
        raise UserError(f"--minutes {arguments.minutes}: too few for one candidate; give more")
    for entry in ranked[:SHOWN]:
        print(f"{entry.rate:6.1%} WER of {len(entry.counts)} utterances: {_flags(entry.candidate, model)}")
    best = ranked[0]
    baseline = plain[: len(best.counts)]
    low, high = paired_bootstrap_interval(best.counts, baseline)
    plain_rate = sum(baseline, ErrorCounts()).rate
    difference = best.rate - plain_rate
    print(f"{plain_rate:6.1%} WER of the same {len(baseline)} utterances: no adaptation")
    print(f"best minus no adaptation: {100 * difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})")
    if difference >= 0:
        print("no candidate lowers the word error rate: nothing is written; recognise this model plainly")
        return
    if high >= 0:
        print("this may be chance, the interval holds 0: give more utterances or minutes before you rely on it")
    if output_dir is None:
        print(f"give these flags with --use_ttt: {_flags(best.candidate, model)}")
        return
    tuning = {
        **{name: getattr(arguments, name) for name in ("subset", "conditions", "minutes", "seed")},
        "num_utterances": len(best.counts),
        "wer": best.rate,
        "wer_without_adaptation": plain_rate,
    }
    print(f"written to {write_tuned_options(output_dir, best.candidate, tuning)}")


def _flags(options: AdaptationOptions, model: "AcousticModel") -> str:
    """The flags that make these options of the model's own."""
    own, values = asdict(model.default_options), asdict(options)
    changed = [option.name for option in model_options() if values[option.name] != own[option.name]]
    return " ".join(f"--ttt_{name} {values[name]}" for name in changed) or "the model's own options"
