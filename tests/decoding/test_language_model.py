import bz2
import gc
import gzip
import hashlib
import json
import lzma
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from lact_asr_model.decoding import language_model as module
from lact_asr_model.decoding.factory import make_decoder
from lact_asr_model.decoding.language_model import (
    BINARY_NAME,
    DESCRIPTION_NAME,
    LanguageModel,
    describe,
    load_language_model,
)
from lact_asr_model.decoding.lexicon import LexiconEntry
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.errors import UserError

pytest.importorskip("kenlm", reason="the lm extra is not installed")


def test_scores_are_those_of_the_definition(tiny_lm) -> None:
    language_model = load_language_model(tiny_lm.arpa)
    assert language_model.order == 2
    assert [entry.word for entry in language_model.lexicon] == tiny_lm.words
    for text in ("", "A", "BA AB", "A A BA", "A XYZ AB"):
        score, is_known = language_model.score(text)
        assert score == pytest.approx(tiny_lm.log10_probability(text), abs=1e-5)
        assert is_known == [word in tiny_lm.words for word in text.split()]


def test_perplexity_is_that_of_the_definition(tiny_lm) -> None:
    sentences = ["A BA", "AB", "A XYZ"]
    result = load_language_model(tiny_lm.arpa).perplexity(sentences)
    total = sum(map(tiny_lm.log10_probability, sentences))
    assert result.perplexity == pytest.approx(10 ** (-total / 8))  # 5 words and 3 ends
    unknown = -1.5 - 0.2  # after A, by back-off
    assert result.perplexity_of_known == pytest.approx(10 ** (-(total - unknown) / 7))
    assert (result.num_words, result.num_unknown) == (5, 1)
    assert result.unknown_rate == pytest.approx(0.2)


COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_is_the_plain_one(tiny_lm, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tiny.arpa{suffix}"
    path.write_bytes(COMPRESS[suffix](tiny_lm.arpa.read_bytes()))
    assert_is_tiny(load_language_model(path), tiny_lm)
    damaged = tmp_path / f"damaged.arpa{suffix}"
    whole = path.read_bytes()
    for content in (whole[:-20], whole[: len(whole) // 2] + b"\xff" * 20 + whole[len(whole) // 2 + 20 :]):
        damaged.write_bytes(content)
        with pytest.raises(UserError, match=f"damaged.arpa{suffix}: (is damaged|cannot be read)"):
            load_language_model(damaged)


def assert_is_tiny(language_model: LanguageModel, tiny_lm) -> None:
    """The words and the probabilities of the model that the tests know all about, in every decoder's eyes."""
    assert [entry.word for entry in language_model.lexicon] == tiny_lm.words
    for text in ("", "BA AB", "A XYZ AB", "A A BA"):
        assert language_model.score(text)[0] == pytest.approx(tiny_lm.log10_probability(text), abs=1e-5)
    kenlm_of_flashlight = pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    dictionary = pytest.importorskip("flashlight.lib.text.dictionary").Dictionary(tiny_lm.words)
    kenlm_of_flashlight.KenLM(str(language_model.path), dictionary)


@pytest.mark.parametrize("make", [str.lower, lambda text: "\ufeff" + text, lambda text: "\ufeff" + text.lower()])
def test_lower_case_and_a_byte_order_mark_change_nothing(
    tiny_lm, tmp_path: Path, make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.arpa"
    content = make(tiny_lm.arpa.read_text())
    path.write_text(content, encoding="utf-8")
    language_model = load_language_model(path)
    assert_is_tiny(language_model, tiny_lm)
    assert language_model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    warned = "is in lower case, and read in upper case" in capsys.readouterr().err
    assert warned == ("ba ab" in content)
    copy = language_model.path
    assert copy != path and copy.exists()
    del language_model
    gc.collect()
    assert not copy.exists()


def test_odd_words_of_a_model_do_not_stop_the_decoder(
    tiny_lm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"AB": b"CAF\xc9", "A": "Ü".encode()}  # one of them is not UTF-8
    content = tiny_lm.arpa.read_bytes()
    for word, other in odd.items():
        content = re.sub(rb"(?<=[\t ])%b(?=[\t \n])" % word.encode(), other, content)
    (tmp_path / "odd.arpa").write_bytes(content)
    vocabulary = ["<pad>", "<unk>", "|", "A", "B"]
    log_probs = np.log(np.full((6, 5), 1e-4, dtype=np.float32))
    for frame, symbol in enumerate("|BA|"):
        log_probs[frame, vocabulary.index(symbol)] = 0.0
    log_probs[4:, 0] = 0.0
    for options in ({}, {"lexicon": "none"}):
        decoder = make_decoder(DecodingOptions(beam_size=10, lm=str(tmp_path / "odd.arpa"), **options), vocabulary)
        assert decoder.decode(log_probs).text == "BA"
        (warning,) = capsys.readouterr().err.splitlines()
        assert "2 of 3 words have characters that the recogniser does not write, such as " in warning


def test_a_lexicon_of_another_model_is_refused_with_the_reason(tiny_lm, tmp_path: Path) -> None:
    others = [LexiconEntry(word, word) for word in ("CAT", "DOG")]
    with pytest.raises(UserError, match="knows 0 of the 2 words of the lexicon, and not CAT; they do not belong"):
        load_language_model(tiny_lm.arpa, others)
    many = [*others * 40, LexiconEntry("BA", "BA")]  # one word is enough, for a lexicon may have names of its own
    assert load_language_model(tiny_lm.arpa, many).lexicon == many
    (tmp_path / "mixed.arpa").write_text(re.sub(r"\bBA\b", "Ba", tiny_lm.arpa.read_text()))
    with pytest.raises(UserError, match="not BA, but Ba; it must be in upper case"):
        load_language_model(tmp_path / "mixed.arpa", [LexiconEntry("BA", "BA")])


def test_a_given_lexicon_takes_the_place_of_the_models_own(tiny_lm) -> None:
    lexicon = [LexiconEntry("AB", "AB")]
    assert load_language_model(tiny_lm.arpa, lexicon).lexicon == lexicon


def test_kenlm_is_quiet(tiny_lm, capfd: pytest.CaptureFixture[str]) -> None:
    load_language_model(tiny_lm.arpa)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"hello", b"mmap lm http://kheafield.com/code format version 5\n\0"])
def test_a_file_that_is_no_language_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lm").write_bytes(content)
    with pytest.raises(UserError, match=f"language model {tmp_path}/lm: "):
        load_language_model(tmp_path / "lm", [LexiconEntry("A", "A")])


def test_a_cut_file(tiny_lm, tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_bytes(tiny_lm.arpa.read_bytes()[:150])
    with pytest.raises(UserError, match="KenLM cannot read it"):
        load_language_model(tmp_path / "lm.arpa")


def test_a_binary_file_alone_does_not_tell_its_words(tmp_path: Path) -> None:
    (tmp_path / "lm.binary").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    with pytest.raises(UserError, match="give --lexicon"):
        load_language_model(tmp_path / "lm.binary")


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        load_language_model(tmp_path / "missing")
    with pytest.raises(UserError, match=f"has no {BINARY_NAME}"):
        load_language_model(tmp_path)
    monkeypatch.setattr(module, "BUNDLED_LM_DIR", tmp_path / "missing")
    with pytest.raises(UserError, match="none is bundled"):
        load_language_model("bundled")


def test_the_missing_extra_is_named(tiny_lm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UserError, match=r'pip install "lact-asr\[lm\]"'):
        load_language_model(tiny_lm.arpa)


@pytest.fixture
def folder(tiny_lm, tmp_path: Path) -> Path:
    """A folder as `build-lm` writes it (with an ARPA file in the place of the binary)."""
    shutil.copy(tiny_lm.arpa, tmp_path / BINARY_NAME)
    (tmp_path / "lexicon.txt.xz").write_bytes(lzma.compress(tiny_lm.lexicon.read_bytes()))
    describe(tmp_path, {"order": 2})
    return tmp_path


def test_a_folder(tiny_lm, folder: Path) -> None:
    language_model = load_language_model(folder)
    assert [entry.word for entry in language_model.lexicon] == tiny_lm.words
    assert json.loads((folder / DESCRIPTION_NAME).read_text())["order"] == 2


def test_a_damaged_folder(folder: Path) -> None:
    content = (folder / BINARY_NAME).read_text()
    (folder / BINARY_NAME).write_text(content.replace("-0.7", "-0.6"))
    with pytest.raises(UserError, match="is damaged"):
        load_language_model(folder)
    (folder / DESCRIPTION_NAME).write_text("{}")
    with pytest.raises(UserError, match=f"{DESCRIPTION_NAME} is damaged"):
        load_language_model(folder)


def test_the_bundled_model_is_small_and_good() -> None:
    language_model = load_language_model("bundled")
    files = list(module.BUNDLED_LM_DIR.iterdir())
    assert max(path.stat().st_size for path in files) <= 15_000_000
    assert sum(path.stat().st_size for path in files) <= 25_000_000
    assert len(language_model.lexicon) > 50_000
    result = language_model.perplexity(["THE OLD MAN SAT DOWN BY THE FIRE AND TOLD US A STORY"])
    assert result.num_unknown == 0
    assert 1 < result.perplexity < math.sqrt(len(language_model.lexicon))
