"""What the console says about transcripts."""

from pathlib import Path

from lact_asr_model.data.transcript_report import describe_lost_words, describe_unknown_letters
from lact_asr_model.data.utterance import Utterance


def utterance(text: str, *lost: str) -> Utterance:
    return Utterance("u", Path("u.wav"), text, 1.0, lost_words=lost)


def test_lost_words_are_counted_and_the_most_frequent_shown() -> None:
    utterances = [utterance("A", "5"), utterance("B"), utterance("C", *(["42"] * 2), *"123467", "5")]
    line = describe_lost_words(utterances, "--subset dev.jsonl")
    assert line is not None and line.startswith("--subset dev.jsonl: 10 words in 2 of 3 transcripts lose ")
    assert "such as '5', '42', '1', '2', '3'; add --normalize" in line
    assert describe_lost_words([utterance("A"), utterance("B")], "dev") is None


def test_letters_that_a_vocabulary_does_not_have_are_counted_with_an_example() -> None:
    utterances = [utterance("A BAD FACE"), utterance("FEED"), utterance("BAD")]
    vocabulary = {"<pad>": 0, "|": 1, "A": 2, "B": 3, "D": 4, "E": 5}
    line = describe_unknown_letters(utterances, vocabulary, "--train_subset x")
    assert line is not None and line.startswith("--train_subset x: ")
    assert "does not have F (2), C (1), as in 'A BAD FACE'" in line
    assert describe_unknown_letters(utterances[2:], vocabulary, "x") is None
