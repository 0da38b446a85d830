"""Text normalisation, vocabulary and processor."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import Wav2Vec2Processor

from lact_asr_model.errors import UserError
from lact_asr_model.text import (
    BLANK,
    UNKNOWN,
    WORD_SEPARATOR,
    build_vocabulary,
    lost_words,
    make_processor,
    normalize_text,
)

TRANSCRIPTS = ["DON'T ASK", "A SMALL BALLOON"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Quilter's well-known  manner,\n", "MR QUILTER'S WELL KNOWN MANNER"),
        ("Café naïve — Ångström", "CAFE NAIVE ANGSTROM"),
        ("Straße, Łódź, Ærø, œuvre, ﬁne", "STRASSE LODZ AERO OEUVRE FINE"),
        ("don’t ‘tis dogs'", "DON'T 'TIS DOGS'"),
        ("she said ''no'' ' thrice", "SHE SAID NO THRICE"),
        ("e\N{COMBINING ACUTE ACCENT}tude", "ETUDE"),
        ("call 42 now", "CALL NOW"),
        ("日本", ""),
        ("", ""),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalize_text(text) == expected


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("Mr. Quilter's well-known — \u201cmanner\u201d (2\u00a0nd/of: it!) … don’t `so´", ["(2"]),
        ("Café Straße Łódź ﬁne ʼtis", []),
        ("in 1984, 50% of R&D", ["1984,", "50%", "R&D"]),
        ("5 € + ½ cup at 20°C #1 a@b", ["5", "€", "+", "½", "20°C", "#1", "a@b"]),
        ("日本 und Москва", ["日本", "Москва"]),
    ],
)
def test_words_that_lose_something_spoken(text: str, lost: list[str]) -> None:
    assert lost_words(text) == lost


@given(st.text(alphabet="aB'’- é.ß|ŉ,;:!?()\u201c"))
def test_letters_and_punctuation_lose_nothing_spoken(text: str) -> None:
    assert [word for word in lost_words(text) if "|" not in word] == []


@given(st.text() | st.text(alphabet="aB'’- é.ß|ŉ"))
def test_normalised_text_is_clean_and_stays_as_it_is(text: str) -> None:
    normalized = normalize_text(text)
    assert re.fullmatch(r"([A-Z']+( [A-Z']+)*)?", normalized)
    assert normalize_text(normalized) == normalized


@given(st.lists(st.text(alphabet="ABCXYZ' "), min_size=1).filter(lambda texts: "".join(texts).strip()))
def test_vocabulary_holds_special_tokens_then_sorted_characters(transcripts: list[str]) -> None:
    vocabulary = build_vocabulary(transcripts)
    assert list(vocabulary.values()) == list(range(len(vocabulary)))
    tokens = list(vocabulary)
    assert tokens[:3] == [BLANK, UNKNOWN, WORD_SEPARATOR]
    assert tokens[3:] == sorted(tokens[3:])
    assert set(tokens[3:]) == {character for text in transcripts for character in text if character != " "}


def test_vocabulary_of_nothing() -> None:
    with pytest.raises(UserError, match="no letters"):
        build_vocabulary(["", " "])


def test_tokenizer_has_exactly_the_vocabulary_and_spells_text() -> None:
    vocabulary = build_vocabulary(TRANSCRIPTS)
    tokenizer = make_processor(vocabulary).tokenizer
    assert tokenizer.get_vocab() == vocabulary
    assert tokenizer.pad_token_id == 0
    labels = tokenizer(TRANSCRIPTS[0]).input_ids
    assert labels == [vocabulary[WORD_SEPARATOR if character == " " else character] for character in TRANSCRIPTS[0]]
    assert tokenizer("Z").input_ids == [vocabulary[UNKNOWN]]
    assert tokenizer.decode(tokenizer(TRANSCRIPTS[1]).input_ids, group_tokens=False) == TRANSCRIPTS[1]


def test_processor_round_trip(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(TRANSCRIPTS)
    make_processor(vocabulary).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text()) == vocabulary
    assert (tmp_path / "processor_config.json").is_file()
    loaded = Wav2Vec2Processor.from_pretrained(tmp_path)
    assert loaded.tokenizer.get_vocab() == vocabulary
    assert loaded.tokenizer("A BAD DAY").input_ids == make_processor(vocabulary).tokenizer("A BAD DAY").input_ids
    assert loaded.feature_extractor.do_normalize
    assert loaded.feature_extractor.return_attention_mask
    assert loaded.feature_extractor.sampling_rate == 16000


def test_normalisation_of_audio_is_over_the_true_length() -> None:
    rng = np.random.default_rng(0)
    short, long = rng.normal(3.0, 2.0, 500).astype(np.float32), rng.normal(0.0, 0.1, 800).astype(np.float32)
    extractor = make_processor(build_vocabulary(TRANSCRIPTS)).feature_extractor
    batch = extractor([short, long], sampling_rate=16000, padding=True, return_tensors="np")
    assert batch["attention_mask"].sum(axis=1).tolist() == [500, 800]
    np.testing.assert_allclose(batch["input_values"][0, :500], (short - short.mean()) / short.std(), atol=1e-4)
    assert not batch["input_values"][0, 500:].any()
