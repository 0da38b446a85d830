import lzma
from pathlib import Path

import pytest

from lact_asr_model.decoding.lexicon import LexiconEntry, read_lexicon, without_odd_words
from lact_asr_model.errors import UserError


def test_words_spell_themselves_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("CAT\n\nMR\tM I S T E R |\nDON'T\nA\tA\n")
    assert read_lexicon(path) == [
        LexiconEntry("CAT", "CAT"),
        LexiconEntry("MR", "MISTER"),
        LexiconEntry("DON'T", "DON'T"),
        LexiconEntry("A", "A"),
    ]


def test_a_compressed_lexicon_reads_the_same(tmp_path: Path) -> None:
    (tmp_path / "words.txt.xz").write_bytes(lzma.compress(b"CAT\nDOG\n"))
    assert [entry.word for entry in read_lexicon(tmp_path / "words.txt.xz")] == ["CAT", "DOG"]


@pytest.mark.parametrize("content", ["CAT\nNEW YORK\n", "CAT\nCH\tCH\n", "CAT\nX\t|\n"])
def test_a_bad_line_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "words.txt").write_text(content)
    with pytest.raises(UserError, match="line 2"):
        read_lexicon(tmp_path / "words.txt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.txt", b"\n\n", "no words"),
        ("words.txt", b"\xff\xfe\n", "damaged or not UTF-8"),
        ("words.txt.xz", b"CAT\n", "damaged"),
        ("words.txt.gz", b"CAT\n", "damaged"),
        ("words.txt.xz", lzma.compress(b"CAT\n" * 1000)[:-40], "damaged"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_lexicon(tmp_path / name)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_lexicon(tmp_path / "missing.txt")


def test_words_that_the_recogniser_does_not_write_are_counted_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    lexicon = [LexiconEntry("AB", "AB"), LexiconEntry("AÉ3", "AÉ3"), LexiconEntry("A|", "A|")]
    vocabulary = ["<pad>", "<unk>", "|", "A", "B"]
    assert without_odd_words(lexicon, vocabulary) == lexicon[:1]
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: lexicon: 2 of 3 words ")
    assert warning.endswith("such as AÉ3 with 3 É; they are left out")
    with pytest.raises(UserError, match="all 2 words .* such as AÉ3 with 3 É; write them with AB"):
        without_odd_words(lexicon[1:], vocabulary)
    assert without_odd_words(lexicon[:1], vocabulary) == lexicon[:1]
    assert capsys.readouterr().err == ""


def test_a_lexicon_in_lower_case_is_read_in_upper_case(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("cat\nDOG\nmr\tm i s t e r\n")
    expected = [LexiconEntry("CAT", "CAT"), LexiconEntry("DOG", "DOG"), LexiconEntry("MR", "MISTER")]
    assert read_lexicon(tmp_path / "words.txt") == expected
    (tmp_path / "words.txt").write_text("\ufeffCAT\nDOg\nDOG\n", encoding="utf-8")
    assert [entry.word for entry in read_lexicon(tmp_path / "words.txt")] == ["CAT", "DOg", "DOG"]
