"""The symbols of a CTC model's outputs, in one notation."""

from typing import TYPE_CHECKING

from lact_asr_model.errors import UserError
from lact_asr_model.text import BLANK, WORD_SEPARATOR

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def vocabulary_of(tokenizer: "PreTrainedTokenizerBase", blank_id: int) -> list[str]:
    """The symbol of every output, named as in `text`: blank, word separator, silent ones in angle brackets.

    Raises:
        UserError: the tokenizer is not one for CTC.
    """
    if not hasattr(tokenizer, "word_delimiter_token"):
        raise UserError(f"tokenizer {type(tokenizer).__name__}: has no word_delimiter_token; give one for CTC")
    ids = tokenizer.get_vocab()
    vocabulary = ["<unused>"] * (max(ids.values()) + 1)
    for symbol, index in ids.items():
        is_silent = symbol in tokenizer.all_special_tokens and not symbol.startswith("<")
        vocabulary[index] = f"<{symbol}>" if is_silent else symbol
    # Where the word separator is not "|", transformers 5 keeps it among these after loading.
    own_names = tokenizer.init_kwargs.get("model_specific_special_tokens", {})
    word_separator = own_names.get("word_delimiter_token", tokenizer.word_delimiter_token)
    if word_separator in ids:
        vocabulary[ids[word_separator]] = WORD_SEPARATOR
    vocabulary[blank_id] = BLANK
    return vocabulary
