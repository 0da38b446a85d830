"""Text files, and the alphabet of the recogniser: text normalisation, vocabulary, tokenizer."""

import codecs
import json
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lact_asr_model.errors import UserError, print_warning

if TYPE_CHECKING:
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

BLANK = "<pad>"
UNKNOWN = "<unk>"
WORD_SEPARATOR = "|"

_LETTERS_WITHOUT_DECOMPOSITION = str.maketrans(
    {"Æ": "AE", "Œ": "OE", "Ø": "O", "Ł": "L", "Đ": "D", "Ð": "D", "Þ": "TH", "ʼ": "'", "’": "'", "‘": "'", "`": "'"}
)


_BYTE_ORDER_MARKS = {  # the longer ones first: that of UTF-32 begins as that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SPOKEN_SYMBOLS = "%&@#"


def read_text_file(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; else of Windows (cp1252).

    The last is a guess, about which one line on stderr warns. Ends of lines become line feeds.

    Raises:
        UserError: the file cannot be read, or holds no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path") from None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            if encoding != "utf-8":
                raise
            text = content.decode("cp1252")
            print_warning(f"{path}: is not UTF-8, so it is read as Windows text (cp1252); save it as UTF-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text in UTF-8, UTF-16 or cp1252; save it as UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path}: is not text, or has no byte order mark; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def normalize_text(text: str) -> str:
    """Upper-case `text` that holds only A-Z, apostrophes inside or beside letters, and single spaces.

    Accents are folded (É to E); every other character, hyphens and digits included, separates words.
    """
    words = re.sub(r"[^A-Z']|''+", " ", _fold(text)).split()
    return " ".join(word for word in words if word != "'")


def lost_words(text: str) -> list[str]:
    """The words of `text`, as written, of which `normalize_text` leaves out a digit, a letter or a spoken symbol."""
    return [word for word in text.split() if any(map(_is_lost, _fold(word)))]


def _fold(text: str) -> str:
    """Upper case without accents."""
    decomposed = unicodedata.normalize("NFKD", text).upper().translate(_LETTERS_WITHOUT_DECOMPOSITION)
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _is_lost(character: str) -> bool:
    if "A" <= character <= "Z":
        return False
    category = unicodedata.category(character)
    is_modifier = category in ("Lm", "Sk")
    return character in _SPOKEN_SYMBOLS or (category[0] in "NLS" and not is_modifier)


def build_vocabulary(transcripts: Iterable[str]) -> dict[str, int]:
    """Ids of blank, unknown, word separator and then, sorted, every character found in normalised `transcripts`.

    Raises UserError when the transcripts hold no characters.
    """
    characters = set().union(*transcripts) - {" "}
    if not characters:
        raise UserError("transcripts: they hold no letters; give training data with text in A-Z")
    return {token: index for index, token in enumerate([BLANK, UNKNOWN, WORD_SEPARATOR, *sorted(characters)])}


def make_feature_extractor(sampling_rate: int = 16000) -> "Wav2Vec2FeatureExtractor":
    """Zero mean, unit variance over an utterance's true length."""
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=sampling_rate,
        padding_value=0.0,
        do_normalize=True,
        return_attention_mask=True,
    )


def make_tokenizer(vocabulary: Mapping[str, int]) -> "Wav2Vec2CTCTokenizer":
    """The CTC tokenizer of a vocabulary as `build_vocabulary` makes it."""
    from transformers import Wav2Vec2CTCTokenizer

    with tempfile.TemporaryDirectory() as folder:
        vocabulary_path = Path(folder) / "vocab.json"
        vocabulary_path.write_text(json.dumps(dict(vocabulary)), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(vocabulary_path),
            bos_token=None,
            eos_token=None,
            unk_token=UNKNOWN,
            pad_token=BLANK,
            word_delimiter_token=WORD_SEPARATOR,
        )


def make_processor(vocabulary: Mapping[str, int], sampling_rate: int = 16000) -> "Wav2Vec2Processor":
    """Both as one; `save_pretrained` and `from_pretrained` of the result round-trip."""
    from transformers import Wav2Vec2Processor

    return Wav2Vec2Processor(make_feature_extractor(sampling_rate), make_tokenizer(vocabulary))
