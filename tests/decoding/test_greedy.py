from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.greedy import GreedyDecoder, greedy_decode
from lact_asr_model.decoding.options import DecodingOptions

VOCABULARY = ["<pad>", "<unk>", "|", "'", "A", "B", "C"]
SYMBOLS = {"-": 0, "?": 1} | {symbol: index for index, symbol in enumerate(VOCABULARY) if len(symbol) == 1}


def log_probs_of(path: str, peaks: list[float] | None = None) -> np.ndarray:
    """Log-probabilities [frames, vocab] whose best path is `path` (- = blank, ? = unknown), with these maxima."""
    peaks = peaks or [0.9] * len(path)
    probs = np.empty((len(path), len(VOCABULARY)))
    for row, symbol, peak in zip(probs, path, peaks, strict=True):
        row[:] = (1 - peak) / (len(VOCABULARY) - 1)
        row[SYMBOLS[symbol]] = peak
    return np.log(probs)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", ""),
        ("----", ""),
        ("||", ""),
        ("AAB", "AB"),
        ("A-AB", "AAB"),
        ("|A||B-|", "A B"),
        ("A|-|B", "A B"),
        ("A?B", "AB"),
        ("?", ""),
        ("A'B|C", "A'B C"),
    ],
)
def test_paths_collapse_to_text(path: str, text: str) -> None:
    assert greedy_decode(log_probs_of(path), VOCABULARY).text == text


def test_words_know_their_frames() -> None:
    words = greedy_decode(log_probs_of("--AA-B--||-C-"), VOCABULARY).words
    assert [(word.word, word.start_frame, word.end_frame) for word in words] == [("AB", 2, 6), ("C", 11, 12)]


def test_confidence_is_the_mean_over_the_frames_that_spell_the_word() -> None:
    hypothesis = greedy_decode(log_probs_of("A-AB|C", [0.5, 0.99, 0.6, 0.7, 0.99, 0.8]), VOCABULARY)
    assert [word.confidence for word in hypothesis.words] == pytest.approx([0.6, 0.8])
    assert hypothesis.score == pytest.approx(np.log([0.5, 0.99, 0.6, 0.7, 0.99, 0.8]).sum())


@given(st.text(alphabet="-?|'ABC", max_size=40), st.randoms(use_true_random=False))
def test_any_path_equals_a_frame_by_frame_decoder(path: str, random) -> None:
    peaks = [random.uniform(0.3, 1.0) for _ in path]
    with np.errstate(divide="ignore"):
        log_probs = log_probs_of(path, peaks)
    collapsed = "".join(symbol for symbol, _ in groupby(path) if symbol not in "-?")
    hypothesis = greedy_decode(log_probs, VOCABULARY)
    assert hypothesis.text == " ".join(collapsed.replace("|", " ").split())
    assert hypothesis.text == " ".join(word.word for word in hypothesis.words)
    assert all(0 <= word.confidence <= 1 for word in hypothesis.words)
    ends = [frame for word in hypothesis.words for frame in (word.start_frame, word.end_frame)]
    assert ends == sorted(ends)
    assert greedy_decode(torch.from_numpy(log_probs), VOCABULARY) == hypothesis


def test_a_beam_of_one_is_greedy() -> None:
    decoder = make_decoder(DecodingOptions(), VOCABULARY)
    assert isinstance(decoder, GreedyDecoder)
    assert decoder.decode(log_probs_of("AB")).text == "AB"
