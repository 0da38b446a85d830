"""The decoder that the options ask for."""

from dataclasses import replace
from typing import TYPE_CHECKING

from lact_asr_model.decoding.hypothesis import Decoder
from lact_asr_model.decoding.options import NONE, DecodingOptions
from lact_asr_model.decoding.tuned_weights import Weights, read_tuned_weights
from lact_asr_model.errors import UserError

if TYPE_CHECKING:
    from lact_asr_model.decoding.language_model import LanguageModel


def make_decoder(options: DecodingOptions, vocabulary: list[str]) -> Decoder:
    """The decoder that the options ask for: greedy for a beam of 1; words of a lexicon, or any words.

    Raises:
        UserError: beam search is not installed, the language model or the lexicon cannot be read, or the vocabulary
            does not fit them.
    """
    if options.beam_size == 1:
        from lact_asr_model.decoding.greedy import GreedyDecoder

        return GreedyDecoder(vocabulary)

    from lact_asr_model.decoding.beam_search import LexiconDecoder, OpenVocabularyDecoder
    from lact_asr_model.decoding.language_model import load_language_model
    from lact_asr_model.decoding.lexicon import read_lexicon

    any_word = options.lexicon == NONE
    lexicon = None if options.lexicon is None or any_word else read_lexicon(options.lexicon)
    language_model = None if options.lm == NONE else load_language_model(options.lm, lexicon)
    if language_model is not None:
        lexicon = language_model.lexicon
    elif options.lm_weight is not None:
        raise UserError(f"LM weight {options.lm_weight}: there is no language model; give one, or no weight")
    weights = _choose_weights(options, language_model)
    if lexicon is None or any_word or options.hotwords:
        return OpenVocabularyDecoder(vocabulary, options, weights, language_model)
    return LexiconDecoder(vocabulary, options, weights, lexicon, language_model)


def _choose_weights(options: DecodingOptions, language_model: "LanguageModel | None") -> Weights:
    """The weights of the options, or those that were tuned, or the defaults."""
    weights = Weights() if language_model else Weights(lm_weight=0.0, word_score=0.0)
    if language_model and options.weights_dir:
        weights = (
            read_tuned_weights(options.weights_dir, language_model.sha256, for_adapted=options.for_adapted) or weights
        )
    given = {"lm_weight": options.lm_weight, "word_score": options.word_score}
    return replace(weights, **{name: value for name, value in given.items() if value is not None})
