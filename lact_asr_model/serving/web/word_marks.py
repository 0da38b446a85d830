"""Two transcripts side by side: which words differ, and which of these are right."""

from lact_asr_model.metrics import correct_words
from lact_asr_model.text import normalize_text

DIFFERENT = "different"
RIGHT = "different, right"
WRONG = "different, wrong"
NOTHING = "(nothing)"


def mark_words(text: str, other: str, reference: str = "") -> list[tuple[str, str | None]]:
    """The words of `text`, each with a mark if `other` does not have it in that place.

    The mark says whether the reference has the word there, if there is a reference; it may be written in any way.
    """
    words = text.split()
    if not words:
        return [(NOTHING, None)]
    is_same = correct_words(other, text) if other.split() else [False] * len(words)
    spoken = normalize_text(reference)
    if spoken:
        marks = [RIGHT if is_right else WRONG for is_right in correct_words(spoken, text.upper())]
    else:
        marks = [DIFFERENT] * len(words)
    return [(word, None if same else mark) for word, same, mark in zip(words, is_same, marks, strict=True)]
