"""The words that a decoder may recognise, and how each is spelled."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lact_asr_model.decoding.text_lines import read_lines
from lact_asr_model.errors import UserError, print_warning
from lact_asr_model.text import WORD_SEPARATOR


class LexiconEntry(NamedTuple):
    """A word, and the characters that the recogniser writes for it."""

    word: str
    spelling: str


def read_lexicon(path: str | Path) -> list[LexiconEntry]:
    """Read a lexicon, plain or compressed: a word a line, or a word, a tab and its characters with spaces between.

    A word separator at the end of a spelling is optional, as in the lexicons of flashlight. A lexicon in lower case is
    read in upper case, as the recogniser writes.

    Raises:
        UserError: the file cannot be read, has no words, or a line is not of this form.
    """
    entries = []
    for number, line in enumerate(read_lines(path), start=1):
        word, tab, characters = line.strip().partition("\t")
        if not word:
            continue
        if not tab and " " not in word and word != WORD_SEPARATOR:
            entries.append(LexiconEntry(word, word.removesuffix(WORD_SEPARATOR)))
            continue
        symbols = characters.split()
        if symbols[-1:] == [WORD_SEPARATOR]:
            symbols.pop()
        if not symbols or " " in word or any(len(symbol) != 1 for symbol in symbols):
            raise UserError(f"lexicon {path}: line {number} is not WORD or WORD<tab>C H A R A C T E R S; correct it")
        entries.append(LexiconEntry(word, "".join(symbols)))
    if not entries:
        raise UserError(f"lexicon {path}: has no words; give a file with a word a line")
    if is_lower_case(entry.word for entry in entries):
        return [LexiconEntry(entry.word.upper(), entry.spelling.upper()) for entry in entries]
    return entries


def is_lower_case(words: Iterable[str]) -> bool:
    """Whether most of the words have a letter in lower case."""
    is_lower = [word != word.upper() for word in words]
    return 2 * sum(is_lower) > len(is_lower)


def without_odd_words(lexicon: Sequence[LexiconEntry], vocabulary: Sequence[str]) -> list[LexiconEntry]:
    """The words that are spelled with characters of the recogniser's vocabulary; one line on stderr counts the others.

    Raises:
        UserError: there are only others.
    """
    known = {symbol for symbol in vocabulary if len(symbol) == 1} - {WORD_SEPARATOR}
    kept = [entry for entry in lexicon if known.issuperset(entry.spelling)]
    if len(kept) == len(lexicon):
        return kept
    word, spelling = next(entry for entry in lexicon if not known.issuperset(entry.spelling))
    unknown = " ".join(sorted(set(spelling) - known))
    example = f"have characters that the recogniser does not write, such as {word} with {unknown}"
    example = example.encode("utf-8", "backslashreplace").decode()
    if not kept:
        raise UserError(f"lexicon: all {len(lexicon)} words {example}; write them with {''.join(sorted(known))}")
    print_warning(f"lexicon: {len(lexicon) - len(kept)} of {len(lexicon)} words {example}; they are left out")
    return kept
