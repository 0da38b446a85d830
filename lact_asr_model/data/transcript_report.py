"""What transcripts lose on the way to the letters that the recogniser writes: lines for the console."""

from collections import Counter
from collections.abc import Collection, Sequence

from lact_asr_model.data.utterance import Utterance

_NUM_EXAMPLES = 5


def describe_lost_words(utterances: Sequence[Utterance], source: str, *, is_spelled_out: bool = False) -> str | None:
    """One line that counts the words that lose something, with the most frequent; None: there are none.

    source: what the user calls the utterances, such as "--train_subset dev.jsonl".
    is_spelled_out: whether numbers were.
    """
    words = Counter(word for utterance in utterances for word in utterance.lost_words)
    if not words:
        return None
    num_transcripts = sum(bool(utterance.lost_words) for utterance in utterances)
    examples = ", ".join(repr(word) for word, _ in words.most_common(_NUM_EXAMPLES))
    advice = (
        "write them as they are said" if is_spelled_out else "add --normalize (English), or write them as they are said"
    )
    return (
        f"{source}: {words.total()} words in {num_transcripts} of {len(utterances)} transcripts lose digits, symbols "
        f"or letters beyond A-Z, such as {examples}; {advice}"
    )


def describe_unknown_letters(utterances: Sequence[Utterance], vocabulary: Collection[str], source: str) -> str | None:
    """One line that counts the letters of normalised transcripts that are not in a vocabulary; None: there are none."""
    known = {*vocabulary, " "}
    letters = Counter(letter for utterance in utterances for letter in utterance.text or "" if letter not in known)
    if not letters:
        return None
    example = next(utterance for utterance in utterances if not known.issuperset(utterance.text or ""))
    counts = ", ".join(f"{letter} ({count})" for letter, count in letters.most_common())
    return (
        f"{source}: the vocabulary of the model does not have {counts}, as in {example.text!r}; it learns to write "
        "nothing there"
    )
