"""How to decode: the options of all decoders, checked."""

from dataclasses import dataclass
from pathlib import Path

from lact_asr_model.errors import UserError

BUNDLED = "bundled"
NONE = "none"
LARGEST_BEAM = 5000


@dataclass(frozen=True)
class DecodingOptions:
    """What a decoder is made from.

    A hypothesis scores log P(text | audio) + lm_weight · log P(text) + word_score · number of words.

    beam_size: 1 is greedy decoding, which uses nothing of what follows.
    lm: "bundled", "none", a folder of `lact-asr build-lm`, or a KenLM file (binary or ARPA).
    lexicon: file of the words that may be recognised; None = the language model's own; "none" = any word may be
        recognised, those that the language model does not know at a price.
    lm_weight, word_score: None = what was tuned for acoustic and language model, or else a default.
    beam_threshold: hypotheses whose score is that much below the best are dropped (natural logarithm).
    hotwords: words or phrases that score `hotword_weight` each time; with them any word may be recognised.
    n_best: how many hypotheses are returned, the alternatives included.
    weights_dir: folder of the acoustic model, where `lact-asr tune-lm` left its weights.
    for_adapted: take the weights there that were tuned for what the model says after adaptation.

    Raises:
        UserError: a value makes no sense.
    """

    beam_size: int = 1
    lm: str = BUNDLED
    lexicon: str | None = None
    lm_weight: float | None = None
    word_score: float | None = None
    beam_threshold: float = 20.0
    hotwords: tuple[str, ...] = ()
    hotword_weight: float = 10.0
    n_best: int = 1
    weights_dir: Path | None = None
    for_adapted: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.beam_size <= LARGEST_BEAM:
            raise UserError(f"beam size {self.beam_size}: is not from 1 (greedy) to {LARGEST_BEAM}; 50 is usual")
        if not 0 < self.beam_threshold < float("inf"):
            raise UserError(f"beam threshold {self.beam_threshold}: is not a positive number; the default is 20")
        if self.lm_weight is not None and not 0 <= self.lm_weight < float("inf"):
            raise UserError(f"LM weight {self.lm_weight}: is not a number from 0 up; about 0.5 is usual")
        for name, value in (("word score", self.word_score), ("hotword weight", self.hotword_weight)):
            if value is not None and not abs(value) < float("inf"):
                raise UserError(f"{name} {value}: is not a finite number; leave it out for the default")
        if not 1 <= self.n_best <= self.beam_size:
            raise UserError(
                f"n-best {self.n_best}: is not from 1 to the beam size, which is {self.beam_size}; change one of them"
            )
