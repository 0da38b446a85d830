"""Words of two transcripts that differ are marked, and rightly."""

from lact_asr_model.serving.web.word_marks import DIFFERENT, NOTHING, RIGHT, WRONG, mark_words


def test_words_that_the_other_has_too_are_not_marked() -> None:
    assert mark_words("A B C", "A B C") == [("A", None), ("B", None), ("C", None)]


def test_words_that_differ_or_are_missing_there_are_marked() -> None:
    assert mark_words("A X C D", "A B C") == [("A", None), ("X", DIFFERENT), ("C", None), ("D", DIFFERENT)]
    assert mark_words("A", "") == [("A", DIFFERENT)]


def test_the_reference_says_which_are_right_however_it_is_written() -> None:
    marked = mark_words("THE CAT SAD", "THE CAD SAT", "The cat sat.")
    assert marked == [("THE", None), ("CAT", RIGHT), ("SAD", WRONG)]
    assert mark_words("the cat", "the cad", "The cat")[1] == ("cat", RIGHT)


def test_an_empty_transcript_says_so() -> None:
    assert mark_words(" ", "A") == [(NOTHING, None)]
