"""Beam search against a sum over all paths, and what it says about bad input."""

import math
import sys
from itertools import groupby, product

import numpy as np
import pytest
import torch

from lact_asr_model.decoding.beam_search import LexiconDecoder, OpenVocabularyDecoder
from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.greedy import greedy_decode
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.errors import UserError
from lact_asr_model.text import BLANK

pytest.importorskip("kenlm", reason="the lm extra is not installed")

VOCABULARY = ["<pad>", "<unk>", "|", "A", "B"]
EXACT = {"beam_size": 2000, "beam_threshold": 1000.0}
UNKNOWN_WORD_LOG10 = -10.0


def all_texts(log_probs: np.ndarray) -> dict[str, float]:
    """log P(text | audio) of every text: the sum over all paths, each collapsed by the definition of CTC."""
    totals: dict[str, float] = {}
    for path in product((0, 2, 3, 4), repeat=len(log_probs)):
        symbols = [VOCABULARY[symbol] for symbol, _ in groupby(path) if symbol != 0]
        text = " ".join("".join(symbols).replace("|", " ").split())
        log_prob = sum(float(log_probs[frame, symbol]) for frame, symbol in enumerate(path))
        totals[text] = np.logaddexp(totals.get(text, -math.inf), log_prob)
    return totals


def ranked(scores: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda pair: -pair[1])


def hypotheses(decoder, log_probs: np.ndarray) -> list[tuple[str, float]]:
    best = decoder.decode(log_probs)
    return [(hypothesis.text, hypothesis.score) for hypothesis in (best, *best.alternatives)]


def assert_same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lm_weight", [None, 0.4, 1.3])
def test_words_of_a_lexicon_agree_with_a_sum_over_all_paths(
    tiny_lm, random_log_probs, seed: int, lm_weight: float | None
) -> None:
    log_probs = random_log_probs(5, 5, seed)
    expected = {
        text: log_prob + (lm_weight or 0) * math.log(10) * tiny_lm.log10_probability(text) + 0.6 * len(text.split())
        for text, log_prob in all_texts(log_probs).items()
        if set(text.split()) <= set(tiny_lm.words)
    }
    lm = {"lm": "none"} if lm_weight is None else {"lm": str(tiny_lm.arpa), "lm_weight": lm_weight}
    options = DecodingOptions(**EXACT, **lm, lexicon=str(tiny_lm.lexicon), word_score=0.6, n_best=5)
    decoder = make_decoder(options, VOCABULARY)
    assert isinstance(decoder, LexiconDecoder)
    assert_same(hypotheses(decoder, log_probs), ranked(expected)[:5])


def test_a_word_has_the_times_of_its_spelling(tmp_path) -> None:
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("M3\tA B\nMUCHLONGERTHANHEARD\tB\n")
    log_probs = np.full((6, 5), -20.0, dtype=np.float32)
    for frame, symbol in enumerate(["A", "<pad>", "B", "|", "B", "B"]):
        log_probs[frame, VOCABULARY.index(symbol)] = 0.0
    decoder = make_decoder(DecodingOptions(beam_size=50, lm="none", lexicon=str(lexicon)), VOCABULARY)
    found = decoder.decode(log_probs)
    assert found.text == "M3 MUCHLONGERTHANHEARD"
    assert [(word.word, word.start_frame, word.end_frame) for word in found.words] == [
        ("M3", 0, 3),
        ("MUCHLONGERTHANHEARD", 4, 6),
    ]
    assert min(word.confidence for word in found.words) > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_any_words_agree_with_a_sum_over_all_paths(random_log_probs, seed: int) -> None:
    log_probs = random_log_probs(5, 5, seed)
    decoder = make_decoder(DecodingOptions(**EXACT, lm="none", n_best=10), VOCABULARY)
    assert isinstance(decoder, OpenVocabularyDecoder)
    assert_same(hypotheses(decoder, log_probs), ranked(all_texts(log_probs))[:10])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hotwords", [(), ("ba", "a ab")])
def test_any_words_with_a_language_model_agree_with_a_sum_over_all_paths(
    tiny_lm, random_log_probs, seed: int, hotwords: tuple[str, ...]
) -> None:
    log_probs = random_log_probs(5, 5, seed)

    def score(text: str, log_prob: float) -> float:
        words = text.split()
        num_unknown = sum(word not in tiny_lm.words for word in words)
        log10_probability = tiny_lm.log10_probability(text) + UNKNOWN_WORD_LOG10 * num_unknown
        num_hotwords = 0
        while words and hotwords:
            length = 1 if words[0] == "BA" else 2 if words[:2] == ["A", "AB"] else 0
            num_hotwords += length > 0
            words = words[max(length, 1) :]
        return log_prob + 0.7 * math.log(10) * log10_probability + 0.3 * len(text.split()) + 2.0 * num_hotwords

    expected = {text: score(text, log_prob) for text, log_prob in all_texts(log_probs).items()}
    options = DecodingOptions(
        **EXACT,
        lm=str(tiny_lm.arpa),
        lexicon=None if hotwords else "none",
        lm_weight=0.7,
        word_score=0.3,
        hotwords=hotwords,
        hotword_weight=2.0,
        n_best=10,
    )
    decoder = make_decoder(options, VOCABULARY)
    assert isinstance(decoder, OpenVocabularyDecoder)
    assert_same(hypotheses(decoder, log_probs), ranked(expected)[:10])


def log_probs_of(path: str, peak: float = 0.9) -> np.ndarray:
    """Log-probabilities whose best path is `path`, - for blank."""
    probs = np.full((len(path), len(VOCABULARY)), (1 - peak) / (len(VOCABULARY) - 1))
    probs[np.arange(len(path)), [VOCABULARY.index({"-": "<pad>"}.get(symbol, symbol)) for symbol in path]] = peak
    return np.log(probs).astype(np.float32)


@pytest.mark.parametrize("decoder", ["lexicon", "any words"])
def test_words_have_the_frames_of_their_most_probable_path(tiny_lm, decoder: str) -> None:
    lexicon = str(tiny_lm.lexicon) if decoder == "lexicon" else "none"
    options = DecodingOptions(beam_size=50, lm=str(tiny_lm.arpa), lexicon=lexicon, lm_weight=0.1, word_score=0.0)
    hypothesis = make_decoder(options, VOCABULARY).decode(log_probs_of("--BB-A-|-A||-AAB--"))
    assert hypothesis.text == "BA A AB"
    assert [(word.word, word.start_frame, word.end_frame) for word in hypothesis.words] == [
        ("BA", 2, 6),
        ("A", 9, 10),
        ("AB", 13, 16),
    ]
    assert all(0.5 < word.confidence <= 0.9 for word in hypothesis.words)
    assert hypothesis.alternatives == []


@pytest.mark.parametrize("seed", range(3))
def test_a_tensor_decodes_as_an_array_and_twice_the_same(tiny_lm, random_log_probs, seed: int) -> None:
    decoder = make_decoder(DecodingOptions(beam_size=20, lm=str(tiny_lm.arpa), n_best=3), VOCABULARY)
    log_probs = random_log_probs(40, 5, seed, sharpness=2.0)
    hypothesis = decoder.decode(log_probs)
    decoder.decode(random_log_probs(15, 5, seed + 100))
    assert decoder.decode(torch.from_numpy(log_probs)) == hypothesis
    assert len(hypothesis.alternatives) == 2
    assert set(hypothesis.text.split()) <= set(tiny_lm.words)
    assert hypothesis.text == " ".join(word.word for word in hypothesis.words)
    assert all(0 <= word.confidence <= 1 for word in hypothesis.words)


def test_a_beam_of_one_is_greedy(random_log_probs) -> None:
    log_probs = random_log_probs(30, 5)
    assert make_decoder(DecodingOptions(), VOCABULARY).decode(log_probs) == greedy_decode(log_probs, VOCABULARY)


@pytest.mark.parametrize("seed", range(5))
def test_a_sure_model_is_decoded_greedily_by_any_beam_without_a_language_model(random_log_probs, seed: int) -> None:
    log_probs = random_log_probs(30, 5, seed, sharpness=30.0)
    hypothesis = make_decoder(DecodingOptions(beam_size=2, lm="none"), VOCABULARY).decode(log_probs)
    assert hypothesis.text == greedy_decode(log_probs, VOCABULARY).text


@pytest.mark.parametrize("beam_size", [0, -1, 10**6])
def test_a_beam_that_makes_no_sense(beam_size: int) -> None:
    with pytest.raises(UserError, match=f"beam size {beam_size}"):
        DecodingOptions(beam_size=beam_size)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam_threshold", 0.0),
        ("beam_threshold", math.nan),
        ("lm_weight", -0.1),
        ("lm_weight", math.inf),
        ("word_score", math.nan),
        ("hotword_weight", math.inf),
        ("n_best", 0),
        ("n_best", 51),
    ],
)
def test_values_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(UserError, match=str(value)):
        DecodingOptions(beam_size=50, **{name: value})


@pytest.mark.parametrize("lexicon", ["words", "none"])
@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (np.zeros((0, 5), np.float32), "no frames"),
        (np.zeros((4, 6), np.float32), r"shape \[4, 6\]"),
        (np.zeros(5, np.float32), r"shape \[5\]"),
        (np.full((4, 5), np.nan, np.float32), "NaN"),
        (np.full((4, 5), 2.0, np.float32), "above 0"),
    ],
)
def test_emissions_that_cannot_be_decoded(tiny_lm, lexicon: str, log_probs: np.ndarray, message: str) -> None:
    lexicon = str(tiny_lm.lexicon) if lexicon == "words" else lexicon
    decoder = make_decoder(DecodingOptions(beam_size=5, lm="none", lexicon=lexicon), VOCABULARY)
    with pytest.raises(UserError, match=message):
        decoder.decode(log_probs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lm": "none", "lm_weight": 0.5}, "there is no language model"),
        ({"lm": "none", "word_score": 0.5}, "word score: has no effect"),
        ({"lm": "none", "hotwords": ("Zoë",)}, "hotword 'Zoë': has E O Z"),
        ({"lm": "none", "hotwords": ("...",)}, "hotword '...': has no letters"),
    ],
)
def test_options_that_contradict_each_other(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_decoder(DecodingOptions(beam_size=5, **options), VOCABULARY)


@pytest.mark.parametrize("lexicon", [None, "none"])
def test_the_bundled_language_model_chooses_between_words_that_sound_alike(lexicon: str | None) -> None:
    vocabulary = ["<pad>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    heard = "THE OLD NAM SAD DOWM BY THE VIRE"
    probs = np.full((2 * len(heard), len(vocabulary)), 0.002)
    probs[1::2, 0] = 0.9
    alike = {"N": "M", "M": "N", "D": "T", "V": "F"}
    for frame, character in enumerate(heard.replace(" ", "|")):
        probs[2 * frame, vocabulary.index(character)] = 0.5
        probs[2 * frame, vocabulary.index(alike.get(character, character))] += 0.3
    log_probs = np.log(probs / probs.sum(axis=1, keepdims=True))
    assert greedy_decode(log_probs, vocabulary).text == heard
    decoder = make_decoder(DecodingOptions(beam_size=50, lexicon=lexicon), vocabulary)
    assert decoder.decode(log_probs).text == "THE OLD MAN SAT DOWN BY THE FIRE"


@pytest.mark.parametrize("missing", [BLANK, "|"])
def test_a_vocabulary_needs_blank_and_separator(missing: str) -> None:
    vocabulary = [symbol for symbol in VOCABULARY if symbol != missing]
    with pytest.raises(UserError, match="vocabulary: has no "):
        make_decoder(DecodingOptions(beam_size=5, lm="none"), vocabulary)


@pytest.mark.parametrize("module", ["kenlm", "flashlight.lib.text.decoder", "ctc_beam_decoder"])
def test_the_missing_extra_is_named(tiny_lm, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it is not installed
    lexicon = "none" if module == "ctc_beam_decoder" else None
    with pytest.raises(UserError, match=r'pip install "lact-asr\[lm\]"'):
        make_decoder(DecodingOptions(beam_size=5, lm=str(tiny_lm.arpa), lexicon=lexicon), VOCABULARY)
