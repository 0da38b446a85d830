"""The weights of a language model that make the fewest word errors: decoded again and again from one recognition."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.hypothesis import Hypothesis
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.decoding.parallel import ParallelDecoder
from lact_asr_model.decoding.tuned_weights import Weights
from lact_asr_model.metrics import ErrorCounts, character_errors, word_errors

_FIRST_STEPS = Weights(lm_weight=0.4, word_score=1.0)
_SMALLEST_LM_WEIGHT_STEP = 0.05


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


def decoding_errors(
    options: DecodingOptions,
    weights: Weights,
    vocabulary: list[str],
    emissions: Sequence[np.ndarray],
    references: Sequence[str],
    num_processes: int = 0,
) -> tuple[ErrorCounts, ErrorCounts]:
    """Word and character errors of all utterances with these weights.

    Args:
        options: of the beam search; its weights do not count.
        weights: those to try.
        vocabulary: the symbol of every column of the emissions.
        emissions: log-probabilities [frames, vocabulary] of each utterance; one without frames says nothing.
        references: its text.
        num_processes: that decode; 0 = this one.
    """
    options = replace(options, lm_weight=weights.lm_weight, word_score=weights.word_score)
    audible = [log_probs for log_probs in emissions if len(log_probs)]
    texts = iter([hypothesis.text for hypothesis in _decode(options, vocabulary, audible, num_processes)])
    pairs = [
        (reference, next(texts) if len(log_probs) else "")
        for reference, log_probs in zip(references, emissions, strict=True)
    ]
    words = sum((word_errors(*pair) for pair in pairs), ErrorCounts())
    return words, sum((character_errors(*pair) for pair in pairs), ErrorCounts())


def _decode(
    options: DecodingOptions, vocabulary: list[str], emissions: Sequence[np.ndarray], num_processes: int
) -> list[Hypothesis]:
    if num_processes > 0:
        with ParallelDecoder(options, vocabulary, num_processes) as decoder:
            return decoder.decode_all(emissions)
    decoder_here = make_decoder(options, vocabulary)
    return [decoder_here.decode(log_probs) for log_probs in emissions]
