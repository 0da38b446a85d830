"""The `tune-lm` command: the weights of a language model that make the fewest word errors on a development set."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.commands.data_options import add_conditions_in_turn, add_data_options, development_task
from lact_asr_model.commands.options import (
    add_decoding_options,
    add_model_options,
    add_ttt_options,
    checkpoint_dir,
    given_ttt_options,
    load_model,
    make_decoding_options,
    make_ttt_options,
)
from lact_asr_model.decoding.options import NONE
from lact_asr_model.decoding.tuned_weights import Weights, write_tuned_weights
from lact_asr_model.errors import UserError, one_line_errors

if TYPE_CHECKING:
    from lact_asr_model.decoding.language_model import LanguageModel


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: recognise once, decode with many weights, write the best."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Find the weights of a language model with the fewest word errors on a development set.",
        epilog="The weights are written beside the checkpoint, where `lact-asr transcribe` finds them. There is one "
        "pair for recognising plainly and one, of --use_ttt, for recognising with adaptation, which makes a model "
        "surer of what it says.",
    )
    add_conditions_in_turn(add_data_options(parser), default="clean")
    search = parser.add_argument_group("search")
    search.add_argument(
        "--num_trials", type=int, default=30, metavar="N", help="weights to try; 0: only describe the language model"
    )
    search.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="where decoding.json goes (default: beside the checkpoint)"
    )
    ttt = add_ttt_options(parser)
    ttt.add_argument("--use_ttt", action="store_true", help="tune the weights for recognition with adaptation")
    add_decoding_options(parser, beam_size=50)
    add_model_options(parser)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.num_trials < 0:
        raise UserError(f"--num_trials {arguments.num_trials}: is negative; give 0 or more")
    if arguments.beam_size == 1:
        raise UserError("--beam_size 1: greedy decoding uses no language model; give 50")
    if arguments.lm == NONE:
        raise UserError("--lm none: there is nothing to tune; give a language model")
    for name in {} if arguments.use_ttt else given_ttt_options(arguments):
        raise UserError(f"--ttt_{name}: has no effect without adaptation; add --use_ttt")
    task, conditions = development_task(arguments)
    utterances = task.utterances
    references = [utterance.text or "" for utterance in utterances]
    if not any(reference.split() for reference in references):
        raise UserError(
            f"--subset {arguments.subset}: no transcript has a word in the recogniser's letters; choose another"
        )
    options = make_decoding_options(arguments)

    from lact_asr_model.decoding.language_model import load_language_model
    from lact_asr_model.decoding.lexicon import read_lexicon

    lexicon = None if options.lexicon in (None, NONE) else read_lexicon(str(options.lexicon))
    language_model = load_language_model(options.lm, lexicon)
    print(_describe(language_model, references, arguments.subset), flush=True)
    if arguments.num_trials == 0:
        return
    output_dir = arguments.output_dir or checkpoint_dir(arguments.checkpoint)
    if not output_dir.is_dir():
        raise UserError(f"--output_dir {output_dir}: no such folder; create it")

    model = load_model(arguments)

    from lact_asr_model.data.utterance import load_samples
    from lact_asr_model.decoding.factory import make_decoder
    from lact_asr_model.evaluation.comparison import corrupt
    from lact_asr_model.evaluation.emissions import compute_emissions
    from lact_asr_model.evaluation.lm_tuning import decoding_errors, search_weights

    recordings = [
        corrupt(load_samples(utterance), conditions[index % len(conditions)], utterance.id, arguments.seed)
        for index, utterance in enumerate(utterances)
    ]
    ttt_options = make_ttt_options(arguments, model).before_language_model() if arguments.use_ttt else None
    teacher = make_decoder(options, model.vocabulary) if ttt_options is not None and ttt_options.is_taught else None
    emissions = compute_emissions(model, recordings, ttt_options, teacher)

    def errors_of(weights: Weights) -> tuple[int, int]:
        start_seconds = time.perf_counter()
        words, characters = decoding_errors(
            options, weights, model.vocabulary, emissions, references, arguments.decoding_processes
        )
        print(
            f"lm_weight {weights.lm_weight:<6g}  word_score {weights.word_score:<6g}  WER {100 * words.rate:.2f} %  "
            f"CER {100 * characters.rate:.2f} %  {time.perf_counter() - start_seconds:.1f} s",
            flush=True,
        )
        return words.errors, characters.errors

    start = Weights(
        Weights.lm_weight if options.lm_weight is None else options.lm_weight,
        Weights.word_score if options.word_score is None else options.word_score,
    )
    best, (num_word_errors, _) = search_weights(errors_of, start, arguments.num_trials)
    num_words = sum(len(reference.split()) for reference in references)
    tuning = {
        "lm": options.lm,
        "subset": arguments.subset,
        "conditions": arguments.conditions,
        "num_utterances": len(utterances),
        "wer": num_word_errors / num_words,
        "beam_size": options.beam_size,
        "beam_threshold": options.beam_threshold,
    }
    if ttt_options is not None:
        tuning["ttt"] = asdict(ttt_options)
    path = write_tuned_weights(output_dir, best, language_model.sha256, tuning, for_adapted=ttt_options is not None)
    print(f"best: lm_weight {best.lm_weight:g}, word_score {best.word_score:g}, {tuning['wer']:.2%} WER; in {path}")


def _describe(language_model: "LanguageModel", references: Sequence[str], subset: str) -> str:
    text = language_model.perplexity(references)
    return (
        f"{language_model.order}-gram of {len(language_model.lexicon or [])} words, "
        f"{language_model.path.stat().st_size / 1e6:.1f} MB; on {subset}: perplexity {text.perplexity:.1f} "
        f"({text.perplexity_of_known:.1f} without unknown words), unknown {text.num_unknown} of {text.num_words} words "
        f"({text.unknown_rate:.2%})"
    )
