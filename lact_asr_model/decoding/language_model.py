"""N-gram language models of KenLM: files, the words that they know, and their perplexity."""

import codecs
import hashlib
import importlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from lact_asr_model.decoding.lexicon import LexiconEntry, is_lower_case, read_lexicon
from lact_asr_model.decoding.options import BUNDLED
from lact_asr_model.decoding.text_lines import COMPRESSED_SUFFIXES, read_lines
from lact_asr_model.errors import UserError, print_warning, silenced_stderr

BUNDLED_LM_DIR = Path(__file__).parents[1] / "bundled_model_lm"
BINARY_NAME = "lm.binary"
LEXICON_NAME = "lexicon.txt.xz"
DESCRIPTION_NAME = "lm.json"
_BINARY_MAGIC = b"mmap lm http://kheafield.com/code"
_LEAST_KNOWN_SHARE = 0.01  # of a lexicon: with less, it was made for another model


@dataclass(frozen=True)
class Perplexity:
    """How well a language model predicts a text; words and ends of sentences are counted.

    perplexity: over all words, unknown ones with the probability of `<unk>`. perplexity_of_known: without those.
    """

    perplexity: float
    perplexity_of_known: float
    num_words: int
    num_unknown: int

    @property
    def unknown_rate(self) -> float:
        return self.num_unknown / max(1, self.num_words)


@dataclass(frozen=True)
class LanguageModel:
    """A KenLM file and its lexicon (None: not known).

    original: the file that `path` is a copy of, made so that KenLM can read it, in the folder `scratch`, which goes
    with this object; None = `path` itself.

    Raises:
        UserError: the lm extra is not installed, or KenLM cannot read the file.
    """

    path: Path
    lexicon: list[LexiconEntry] | None
    original: Path | None = None
    scratch: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _ = self._model  # a damaged file is found here

    @property
    def order(self) -> int:
        return self._model.order

    @cached_property
    def sha256(self) -> str:
        """Of the file: which language model it is, wherever it lies."""
        return _sha256(self.original or self.path)

    def knows(self, word: str) -> bool:
        """Whether the model has a probability of its own for a word."""
        return word in self._model

    def score(self, text: str) -> tuple[float, list[bool]]:
        """log10 P(text), from the start to the end of a sentence, and for every word whether the model knows it."""
        scores = list(self._model.full_scores(text))
        return sum(log10_probability for log10_probability, _, _ in scores), [not oov for _, _, oov in scores[:-1]]

    def perplexity(self, sentences: Iterable[str]) -> Perplexity:
        """Perplexity of sentences, each one words with single spaces between them."""
        log10_known, log10_unknown = 0.0, 0.0
        num_sentences = num_known = num_unknown = 0
        for sentence in sentences:
            num_sentences += 1
            for log10_probability, _, is_unknown in self._model.full_scores(sentence):
                if is_unknown:
                    log10_unknown += log10_probability
                    num_unknown += 1
                else:
                    log10_known += log10_probability
                    num_known += 1
        return Perplexity(
            10 ** (-(log10_known + log10_unknown) / max(1, num_known + num_unknown)),
            10 ** (-log10_known / max(1, num_known)),
            num_known + num_unknown - num_sentences,
            num_unknown,
        )

    @cached_property
    def _model(self) -> Any:
        kenlm = import_extra("kenlm")
        config = kenlm.Config()
        config.show_progress = False
        try:
            with silenced_stderr():
                return kenlm.Model(str(self.path), config)
        except OSError as error:
            reason = " ".join(str(error).split())
            name = self.original or self.path
            raise UserError(f"language model {name}: KenLM cannot read it ({reason}); build it again") from None


def load_language_model(name: str | Path, lexicon: list[LexiconEntry] | None = None) -> LanguageModel:
    """Load "bundled", a folder of `lact-asr build-lm`, or a KenLM file, binary or ARPA, plain or compressed.

    An ARPA file in lower case is read in upper case, as the recogniser writes.

    Args:
        lexicon: the words that it knows; None = those of the folder or of the ARPA file.

    Raises:
        UserError: the lm extra is not installed, nothing is there, the file is damaged, it is a binary file alone,
            which does not tell its words, or it knows almost none of the words of the lexicon.
    """
    import_extra("kenlm")
    if name == BUNDLED:
        path = BUNDLED_LM_DIR
        if not path.is_dir():
            raise UserError('language model: none is bundled with this installation; give its path, or "none"')
    else:
        path = Path(name)
        if not path.exists():
            raise UserError(f'language model {path}: no such file or folder; give another path, or "none"')
    language_model = _load_folder(path, lexicon) if path.is_dir() else _load_file(path, lexicon)
    if lexicon is not None:
        _check_words_known(language_model, lexicon, path)
    return language_model


def import_extra(name: str) -> ModuleType:
    """Import a module of the lm extra. Raises UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            'beam search and language models need the lm extra; run `pip install "lact-asr[lm]"`, '
            "or give beam size 1 (greedy)"
        ) from None


def describe(folder: Path, description: dict[str, Any]) -> None:
    """Write what `build-lm` knows of a language model beside it, with the checksum by which damage is found."""
    content = {**description, "sha256": _sha256(folder / BINARY_NAME)}
    (folder / DESCRIPTION_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _load_folder(folder: Path, lexicon: list[LexiconEntry] | None) -> LanguageModel:
    for name in (BINARY_NAME, LEXICON_NAME, DESCRIPTION_NAME):
        if not (folder / name).is_file():
            raise UserError(f"language model {folder}: has no {name}; give a folder of `lact-asr build-lm`")
    language_model = LanguageModel(folder / BINARY_NAME, lexicon or read_lexicon(folder / LEXICON_NAME))
    try:
        expected = json.loads((folder / DESCRIPTION_NAME).read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"language model {folder}: its {DESCRIPTION_NAME} is damaged; build it again") from None
    if language_model.sha256 != expected:
        raise UserError(f"language model {folder}: its {BINARY_NAME} is damaged; copy it anew or build it again")
    return language_model


def _load_file(path: Path, lexicon: list[LexiconEntry] | None) -> LanguageModel:
    if path.suffix in COMPRESSED_SUFFIXES:
        begins_as = next(read_lines(path, errors="surrogateescape"), "").encode("utf-8", "surrogateescape")
    else:
        begins_as = _first_bytes(path)
    if begins_as.startswith(_BINARY_MAGIC):
        if path.suffix in COMPRESSED_SUFFIXES:
            raise UserError(f"language model {path}: is a compressed binary file; unpack it first")
        if lexicon is None:
            raise UserError(
                f"language model {path}: a binary file does not tell its words; give --lexicon, or the folder of "
                "build-lm"
            )
        return LanguageModel(path, lexicon)
    words = list(_words_of_arpa(path))
    in_lower_case = is_lower_case(words)
    if in_lower_case:
        print_warning(f"language model {path}: is in lower case, and read in upper case, as the recogniser writes")
        words = list(dict.fromkeys(word.upper() for word in words))
    own_lexicon = [LexiconEntry(word, word) for word in words]
    if not in_lower_case and path.suffix not in COMPRESSED_SUFFIXES and not begins_as.startswith(codecs.BOM_UTF8):
        return LanguageModel(path, lexicon or own_lexicon)
    scratch = tempfile.TemporaryDirectory(prefix="lact-asr-")
    copy = Path(scratch.name) / "lm.arpa"
    _copy_arpa(path, copy, in_upper_case=in_lower_case)
    return LanguageModel(copy, lexicon or own_lexicon, original=path, scratch=scratch)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_BINARY_MAGIC))
    except OSError as error:
        raise UserError(f"language model {path}: cannot be read ({error.strerror}); check the path") from None


def _words_of_arpa(path: Path) -> Iterator[str]:
    """The unigrams of an ARPA file that are words; bytes that are not UTF-8 are escaped."""
    is_unigram = False
    for line in read_lines(path, errors="surrogateescape"):
        if line.startswith("\\"):
            if is_unigram:
                return
            is_unigram = line.strip() == "\\1-grams:"
        elif is_unigram and len(fields := line.split()) > 1 and not _is_symbol(fields[1]):
            yield fields[1]


def _is_symbol(word: str) -> bool:
    """Of the model itself, such as <s>."""
    return word.startswith("<") and word.endswith(">")


def _copy_arpa(path: Path, copy: Path, *, in_upper_case: bool) -> None:
    """An ARPA file unpacked, without byte order mark, and with its words in upper case if asked for."""
    order = 0  # of the n-grams of the section
    try:
        with copy.open("wb") as file:
            for line in read_lines(path, errors="surrogateescape"):
                if line.startswith("\\"):
                    order = int(section[1]) if (section := re.match(r"\\(\d+)-grams:", line)) else 0
                elif order and in_upper_case and line.strip():
                    probability, *words = line.split()
                    upper = [word if _is_symbol(word) else word.upper() for word in words[:order]]
                    line = "\t".join([probability, " ".join(upper), *words[order:]])
                file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    except OSError as error:
        reason = f"cannot be copied to {copy.parent} ({error.strerror}); set TMPDIR to a folder with space"
        raise UserError(f"language model {path}: {reason}") from None


def _check_words_known(language_model: LanguageModel, lexicon: Sequence[LexiconEntry], path: Path) -> None:
    known = [language_model.knows(entry.word) for entry in lexicon]
    if sum(known) >= _LEAST_KNOWN_SHARE * len(known):
        return
    word = lexicon[known.index(False)].word
    other_case = next((other for other in (word.lower(), word.capitalize()) if language_model.knows(other)), None)
    reason = f", but {other_case}; it must be in upper case" if other_case else "; they do not belong together"
    raise UserError(
        f"language model {path}: knows {sum(known)} of the {len(known)} words of the lexicon, and not {word}{reason}"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
