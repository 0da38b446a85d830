"""The `tune-lm` command: the weights of a language model that make the fewest word errors on a development set."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.commands.options import (
    add_decoding_options,
    add_model_options,
    checkpoint_dir,
    load_model,
    make_decoding_options,
)
from lact_asr_model.data.sources import read_references
from lact_asr_model.data.utterance import load_samples
from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.hypothesis import Hypothesis
from lact_asr_model.decoding.options import NONE, DecodingOptions
from lact_asr_model.decoding.parallel import ParallelDecoder
from lact_asr_model.decoding.tuned_weights import Weights, write_tuned_weights
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.metrics import ErrorCounts, character_errors, word_errors

if TYPE_CHECKING:
    import numpy as np

    from lact_asr_model.decoding.language_model import LanguageModel

_FIRST_STEPS = Weights(lm_weight=0.4, word_score=1.0)
_SMALLEST_LM_WEIGHT_STEP = 0.05


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: recognise once, decode with many weights, write the best."""
    arguments = _parser().parse_args(argv)
    with one_line_errors():
        _run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Find the weights of a language model with the fewest word errors on a development set.",
        epilog="The weights are written beside the checkpoint, where `lact-asr transcribe` finds them.",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data_dir", metavar="DIR", help="folder of the LibriSpeech subsets or manifests")
    data.add_argument("--subset", required=True, help="development set, such as dev-clean; never a test set")
    data.add_argument("--max_utterances", type=int, metavar="N", help="only the first N utterances")
    data.add_argument(
        "--normalize", action="store_true", help="spell numbers and symbols of the references out, in English"
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--num_trials", type=int, default=30, metavar="N", help="weights to try; 0: only describe the language model"
    )
    search.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="where decoding.json goes (default: beside the checkpoint)"
    )
    add_decoding_options(parser, beam_size=50)
    add_model_options(parser)
    return parser


def search_weights(
    errors_of: Callable[[Weights], tuple[int, int]], start: Weights, num_trials: int
) -> tuple[Weights, tuple[int, int]]:
    """Pattern search: try the neighbours of the best weights, move there if one is better, else halve the steps.

    Args:
        errors_of: (word errors, character errors) with the given weights; fewer of the first win, then of the second.
        start: the first weights to try.
        num_trials: how many weights are tried at most.

    Returns:
        The best weights and their errors.
    """
    tried = {start: errors_of(start)}
    best, steps = start, _FIRST_STEPS
    while steps.lm_weight >= _SMALLEST_LM_WEIGHT_STEP:
        neighbours = [
            Weights(round(max(0.0, best.lm_weight + lm_sign * steps.lm_weight), 4), round(best.word_score + change, 4))
            for lm_sign, change in ((1, 0.0), (-1, 0.0), (0, steps.word_score), (0, -steps.word_score))
        ]
        for neighbour in neighbours:
            if neighbour not in tried:
                if len(tried) >= num_trials:
                    best = min(tried, key=tried.__getitem__)
                    return best, tried[best]
                tried[neighbour] = errors_of(neighbour)
        better = min([best, *neighbours], key=lambda weights: tried[weights])
        if better == best:
            steps = Weights(steps.lm_weight / 2, steps.word_score / 2)
        best = better
    return best, tried[best]


def _run(arguments: argparse.Namespace) -> None:
    if "test" in arguments.subset.lower():
        raise UserError(f"--subset {arguments.subset}: is a test set by its name; tune on a development set")
    if arguments.num_trials < 0:
        raise UserError(f"--num_trials {arguments.num_trials}: is negative; give 0 or more")
    if arguments.max_utterances is not None and arguments.max_utterances < 1:
        raise UserError(f"--max_utterances {arguments.max_utterances}: is below 1; give 1 or more")
    if arguments.beam_size == 1:
        raise UserError("--beam_size 1: greedy decoding uses no language model; give 50")
    if arguments.lm == NONE:
        raise UserError("--lm none: there is nothing to tune; give a language model")
    utterances = read_references(arguments.subset, arguments.data_dir, normalize=arguments.normalize)
    utterances = utterances[: arguments.max_utterances]
    for utterance in utterances:
        if utterance.text is None:
            raise UserError(f"utterance {utterance.id}: it has no transcript to compare with; leave it out")
    references = [utterance.text or "" for utterance in utterances]
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

    from lact_asr_model.evaluation.emissions import compute_emissions

    recordings = [load_samples(utterance) for utterance in utterances]
    emissions = compute_emissions(model, recordings)

    def errors_of(weights: Weights) -> tuple[int, int]:
        start_seconds = time.perf_counter()
        hypotheses = _decode(
            replace(options, lm_weight=weights.lm_weight, word_score=weights.word_score),
            model.vocabulary,
            emissions,
            arguments.decoding_processes,
        )
        words, characters = _errors(references, hypotheses)
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
        "num_utterances": len(utterances),
        "wer": num_word_errors / num_words,
        "beam_size": options.beam_size,
        "beam_threshold": options.beam_threshold,
    }
    path = write_tuned_weights(output_dir, best, language_model.sha256, tuning)
    print(f"best: lm_weight {best.lm_weight:g}, word_score {best.word_score:g}, {tuning['wer']:.2%} WER; in {path}")


def _describe(language_model: "LanguageModel", references: Sequence[str], subset: str) -> str:
    text = language_model.perplexity(references)
    return (
        f"{language_model.order}-gram of {len(language_model.lexicon or [])} words, "
        f"{language_model.path.stat().st_size / 1e6:.1f} MB; on {subset}: perplexity {text.perplexity:.1f} "
        f"({text.perplexity_of_known:.1f} without unknown words), unknown {text.num_unknown} of {text.num_words} words "
        f"({text.unknown_rate:.2%})"
    )


def _decode(
    options: DecodingOptions, vocabulary: list[str], emissions: "Sequence[np.ndarray]", num_processes: int
) -> list[Hypothesis]:
    if num_processes > 0:
        with ParallelDecoder(options, vocabulary, num_processes) as decoder:
            return decoder.decode_all(emissions)
    decoder_here = make_decoder(options, vocabulary)
    return [decoder_here.decode(log_probs) for log_probs in emissions]


def _errors(references: Sequence[str], hypotheses: Sequence[Hypothesis]) -> tuple[ErrorCounts, ErrorCounts]:
    pairs = [(reference, hypothesis.text) for reference, hypothesis in zip(references, hypotheses, strict=True)]
    words = reduce(add, (word_errors(*pair) for pair in pairs))
    characters = reduce(add, (character_errors(*pair) for pair in pairs))
    return words, characters
