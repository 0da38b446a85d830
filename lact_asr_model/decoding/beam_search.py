"""Beam search with a KenLM language model: over the words of a lexicon (flashlight), or over any words.

Both searches sum over all paths of a transcript and score it with log P(text | audio) + lm_weight · log P(text) +
word_score · number of words, natural logarithms throughout.
"""

import math
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lact_asr_model.decoding.alignment import align_words
from lact_asr_model.decoding.confidence import Candidate, word_posteriors
from lact_asr_model.decoding.greedy import is_special
from lact_asr_model.decoding.hypothesis import Decoder, Hypothesis
from lact_asr_model.decoding.language_model import LanguageModel, import_extra
from lact_asr_model.decoding.lexicon import LexiconEntry, without_odd_words
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.decoding.tuned_weights import Weights
from lact_asr_model.errors import UserError, silenced_stderr
from lact_asr_model.text import BLANK, WORD_SEPARATOR, normalize_text

if TYPE_CHECKING:
    from torch import Tensor

_LOWEST_LOG_PROB = -100.0
_NATURAL = math.log(10)  # KenLM has logarithms to base 10
_UNKNOWN_WORD_LOG10 = -10.0  # on top of what the language model gives to <unk>; the default of pyctcdecode


class BeamSearchDecoder(Decoder):
    """What both searches share: checked input, the n best texts, words with their frames."""

    def __init__(
        self,
        vocabulary: list[str],
        options: DecodingOptions,
        weights: Weights,
        language_model: LanguageModel | None = None,
    ) -> None:
        for symbol in (BLANK, WORD_SEPARATOR):
            if symbol not in vocabulary:
                raise UserError(f"vocabulary: has no {symbol}; beam search needs a blank and a word separator")
        self.vocabulary = vocabulary
        self.options = options
        self.weights = weights
        self.language_model = language_model
        self.uses_language_model = language_model is not None

    def decode(self, log_probs: "np.ndarray[Any, Any] | Tensor") -> Hypothesis:
        """The best hypothesis of log-probabilities [frames, vocab] without padding, and its alternatives.

        Raises:
            UserError: there are no frames, or they are not log-probabilities over the vocabulary.
        """
        emissions = self._checked(log_probs)
        candidates = self._search(emissions)
        hypotheses = []
        for index, candidate in enumerate(candidates[: self.options.n_best]):
            spelled = align_words(emissions, " ".join(candidate.spellings), self.vocabulary)
            posteriors = word_posteriors(candidates, index)
            words = [
                replace(aligned, word=word, confidence=aligned.confidence * posterior)
                for word, aligned, posterior in zip(candidate.words, spelled, posteriors, strict=True)
            ]
            hypotheses.append(Hypothesis(" ".join(candidate.words), words, candidate.score))
        return replace(hypotheses[0], alternatives=hypotheses[1:])

    @abstractmethod
    def _search(self, emissions: np.ndarray) -> list[Candidate]:
        """The texts that were found, the best first."""

    def _checked(self, log_probs: "np.ndarray[Any, Any] | Tensor") -> np.ndarray:
        emissions = log_probs if isinstance(log_probs, np.ndarray) else log_probs.detach().cpu().numpy()
        if emissions.ndim != 2 or emissions.shape[1] != len(self.vocabulary):
            raise UserError(
                f"emissions: have shape {list(emissions.shape)}; they must be [frames, {len(self.vocabulary)}], "
                "log-probabilities over the vocabulary"
            )
        if len(emissions) == 0:
            raise UserError("emissions: have no frames; there is nothing to decode")
        if np.isnan(emissions).any() or emissions.max() > 1e-3:
            raise UserError("emissions: are NaN or above 0; give log-probabilities (log_softmax of the logits)")
        return np.maximum(emissions, _LOWEST_LOG_PROB, dtype=np.float32)


class LexiconDecoder(BeamSearchDecoder):
    """Recognises sequences of the words of a lexicon, with the lexicon beam search of flashlight.

    Args:
        vocabulary: the symbol of every column of the emissions.
        options: beam, number of hypotheses.
        weights: of the language model, and of every word.
        lexicon: the words.
        language_model: None = every sequence is as likely as any other.

    Raises:
        UserError: the lm extra is not installed, or no word is spelled with characters of the vocabulary.
    """

    def __init__(
        self,
        vocabulary: list[str],
        options: DecodingOptions,
        weights: Weights,
        lexicon: Sequence[LexiconEntry],
        language_model: LanguageModel | None = None,
    ) -> None:
        super().__init__(vocabulary, options, weights, language_model)
        flashlight = import_extra("flashlight.lib.text.decoder")
        dictionary = import_extra("flashlight.lib.text.dictionary")
        lexicon = without_odd_words(lexicon, vocabulary)
        self._words = list(dict.fromkeys(entry.word for entry in lexicon))
        self._separator, blank = vocabulary.index(WORD_SEPARATOR), vocabulary.index(BLANK)
        self._says_nothing = {self._separator, blank}
        if language_model is None:
            self._scorer = flashlight.ZeroLM()
        else:
            kenlm = import_extra("flashlight.lib.text.decoder.kenlm")
            with silenced_stderr():
                self._scorer = kenlm.KenLM(str(language_model.path), dictionary.Dictionary(self._words))
        self._trie = self._make_trie(flashlight, lexicon)
        self._decoder = flashlight.LexiconDecoder(
            flashlight.LexiconDecoderOptions(
                beam_size=options.beam_size,
                beam_size_token=len(vocabulary),
                beam_threshold=options.beam_threshold,
                lm_weight=_NATURAL * weights.lm_weight,
                word_score=weights.word_score,
                unk_score=-math.inf,
                sil_score=0.0,
                log_add=True,
                criterion_type=flashlight.CriterionType.CTC,
            ),
            self._trie,
            self._scorer,
            self._separator,
            blank,
            len(self._words),  # index of the unknown word, which cannot occur
            [],
            False,
        )
        last_frame = np.full((1, len(vocabulary)), 100 * _LOWEST_LOG_PROB, dtype=np.float32)
        last_frame[0, self._separator] = 0.0
        self._last_frame = last_frame

    def _make_trie(self, flashlight: Any, lexicon: Sequence[LexiconEntry]) -> Any:
        """Spellings of all words, each with the best score that the language model gives to a word below it."""
        symbols = {symbol: index for index, symbol in enumerate(self.vocabulary)}
        words = {word: index for index, word in enumerate(self._words)}
        trie = flashlight.Trie(len(self.vocabulary), self._separator)
        start = self._scorer.start(False)
        for entry in lexicon:
            word = words[entry.word]
            _, score = self._scorer.score(start, word)
            trie.insert([*(symbols[character] for character in entry.spelling), self._separator], word, score)
        trie.smear(flashlight.SmearingMode.MAX)
        return trie

    def _search(self, emissions: np.ndarray) -> list[Candidate]:
        # A word of the search ends with a separator. This frame ends the last one, for it says nothing else.
        emissions = np.concatenate([emissions, self._last_frame])
        results = self._decoder.decode(emissions.ctypes.data, *emissions.shape)
        return [self._candidate(result) for result in results]

    def _candidate(self, result: Any) -> Candidate:
        """A result has the index of a word in the frame where it ends, and -1 in all others; a symbol in each."""
        found = [(self._words[word], frame) for frame, word in enumerate(result.words) if word >= 0]
        spans = list(pairwise([0, *(frame for _, frame in found)]))
        spellings = [
            "".join(
                self.vocabulary[token]
                for token, _ in groupby(result.tokens[start:end])
                if token not in self._says_nothing
            )
            for start, end in spans
        ]
        return Candidate([word for word, _ in found], result.score, spans, spellings)


class OpenVocabularyDecoder(BeamSearchDecoder):
    """Recognises any words, with the beam search of ctc-beam-decoder, which does what pyctcdecode does.

    Words that the language model does not know cost extra; hotwords gain.

    Args:
        vocabulary: the symbol of every column of the emissions.
        options: beam, hotwords, number of hypotheses.
        weights: of the language model, and of every word.
        language_model: with its lexicon; None = every sequence is as likely as any other.

    Raises:
        UserError: the lm extra is not installed, or a hotword has no letters of the vocabulary.
    """

    def __init__(
        self,
        vocabulary: list[str],
        options: DecodingOptions,
        weights: Weights,
        language_model: LanguageModel | None = None,
    ) -> None:
        super().__init__(vocabulary, options, weights, language_model)
        library = import_extra("ctc_beam_decoder")
        self._columns = [index for index, symbol in enumerate(vocabulary) if symbol == BLANK or not is_special(symbol)]
        symbols = [vocabulary[index] for index in self._columns]
        self._blank, self._separator = symbols.index(BLANK), symbols.index(WORD_SEPARATOR)
        labels = [{BLANK: "", WORD_SEPARATOR: " "}.get(symbol, symbol) for symbol in symbols]
        known = without_odd_words(language_model.lexicon or (), vocabulary) if language_model else []
        self._known_words = {entry.word for entry in known}
        if language_model is None and weights.word_score:
            raise UserError("word score: has no effect without a language model or a lexicon; leave it out")
        self._hotwords = [_checked_hotword(hotword, vocabulary) for hotword in options.hotwords]
        self._hotword_pattern = re.compile(
            "|".join(rf"(?<!\S){re.escape(hotword)}(?!\S)" for hotword in self._hotwords) or "(?!)"
        )
        # pyctcdecode drops symbols at half the distance at which it drops hypotheses.
        self._lowest_symbol = -options.beam_threshold / 2
        if language_model is None:
            self._decoder = library.BeamSearchDecoder(labels)
        else:
            with silenced_stderr():
                self._decoder = library.BeamSearchDecoder(
                    labels,
                    kenlm_model_path=language_model.path,
                    unigrams=sorted(self._known_words),
                    alpha=weights.lm_weight,
                    beta=weights.word_score,
                    unk_score_offset=_UNKNOWN_WORD_LOG10,
                )

    def _search(self, emissions: np.ndarray) -> list[Candidate]:
        beams = self._decoder.decode_beams(
            self._without_final_separators(emissions[:, self._columns]),
            beam_width=self.options.beam_size,
            beam_prune_logp=-self.options.beam_threshold,
            token_min_logp=self._lowest_symbol,
            hotwords=self._hotwords,
            hotword_weight=self.options.hotword_weight,
        )
        candidates = [
            Candidate(text.split(), acoustic_score + self._text_score(text), [span for _, span in places], text.split())
            for text, _, places, acoustic_score, _ in beams
        ]
        return sorted(candidates, key=lambda candidate: -candidate.score)

    def _without_final_separators(self, emissions: np.ndarray) -> np.ndarray:
        """Turn separators into blanks behind the last letter, where they mean the same.

        The search takes what follows a separator for a word, and nothing for an unknown one.
        """
        letters = np.delete(emissions, [self._blank, self._separator], axis=1)
        (spoken,) = np.nonzero(letters.max(axis=1) >= self._lowest_symbol)
        tail = emissions[spoken[-1] + 1 if len(spoken) else 0 :]
        tail[:, self._blank] = np.logaddexp(tail[:, self._blank], tail[:, self._separator])
        tail[:, self._separator] = _LOWEST_LOG_PROB
        return emissions

    def _text_score(self, text: str) -> float:
        """What a text scores apart from the audio.

        The score of the search itself counts an empty unknown word at the end of some hypotheses.
        """
        words = text.split()
        score = self.weights.word_score * len(words)
        if self.language_model is not None:
            log10_probability, is_known = self.language_model.score(" ".join(words))
            num_unknown = sum(
                not (in_model and word in self._known_words) for word, in_model in zip(words, is_known, strict=True)
            )
            score += self.weights.lm_weight * _NATURAL * (log10_probability + _UNKNOWN_WORD_LOG10 * num_unknown)
        return score + self.options.hotword_weight * len(self._hotword_pattern.findall(text))


def _checked_hotword(hotword: str, vocabulary: Sequence[str]) -> str:
    text = normalize_text(hotword)
    unknown = set(text) - set(vocabulary) - {" "}
    if not text or unknown:
        reason = f"has {' '.join(sorted(unknown))}" if unknown else "has no letters"
        raise UserError(f"hotword {hotword!r}: {reason}, so the recogniser cannot write it; leave it out")
    return text
