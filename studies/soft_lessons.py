"""How should the text that a language model reads teach a recogniser? Forms of the taught loss, compared.

    python studies/soft_lessons.py --data_dir DATA_DIR --subset dev-mini --max_utterances 16 \\
        --conditions clean,gaussian:0.01,noise:5,telephone --noise_dir NOISE_DIR

The fast weights of each utterance learn from what a beam search with the bundled language model reads in it:

    text        its best text, times the square of the text's confidence: `--ttt_loss_type lm`
    n-best      its ten best texts, each as much as its posterior among them
    words       the path of its best text, each word as much as the square of its own confidence
    near        the same path, but for the frames whose symbol there is less probable than a tenth
    risk        the expected word errors among the ten texts (minimum Bayes risk: Prabhavalkar et al. 2018,
                arXiv:1712.01818, with the texts themselves in the place of a reference)

Printed: a row for each form and number of steps with the mean over the conditions of the word error rate, greedily and
with the language model, and what changes from no adaptation (paired 95 % interval over utterances).
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from cells import SEED, rate_cells
from corrupted_set import make_parser, read_tasks
from torch import Tensor

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.adaptation.lessons import Lesson, taught_loss
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt
from lact_asr_model.data.utterance import Utterance, load_samples
from lact_asr_model.decoding.alignment import best_path
from lact_asr_model.decoding.greedy import GreedyDecoder
from lact_asr_model.decoding.hypothesis import Hypothesis
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.decoding.teacher import DecoderTeacher
from lact_asr_model.errors import one_line_errors
from lact_asr_model.evaluation.comparison import corrupt
from lact_asr_model.evaluation.decodings import BeamDecoders
from lact_asr_model.metrics import ConditionErrors, ErrorCounts, word_errors
from lact_asr_model.text import BLANK, WORD_SEPARATOR

STEPS = (1, 2)
SMALLEST_PROBABILITY = 0.1
NONE = "none", 0


@dataclass(frozen=True)
class Reading:
    """What the beam search read in one utterance before its first step.

    texts: the best first. symbols: their ids. posteriors: [texts], the share of each. language: [texts], the part of a
    text's score that the recogniser has not given. confidence: of the best text. path: [frames], ids of its most
    probable path. trust: [frames], the confidence of the word that a frame is in, of the text between words.
    """

    texts: list[str]
    symbols: list[list[int]]
    posteriors: Tensor
    language: Tensor
    confidence: float
    path: Tensor
    trust: Tensor


def read(hypothesis: Hypothesis, log_probs: Tensor, vocabulary: list[str], blank: int) -> Reading | None:
    """None where no word was read in log_probs [frames, vocabulary]."""
    if not hypothesis.words:
        return None
    texts = [each.text for each in (hypothesis, *hypothesis.alternatives) if each.text]
    scores = torch.tensor([each.score for each in (hypothesis, *hypothesis.alternatives) if each.text])
    ids = {symbol: index for index, symbol in enumerate(vocabulary)}
    symbols = [[ids[symbol] for symbol in each.replace(" ", WORD_SEPARATOR)] for each in texts]
    confidence = fmean(word.confidence for word in hypothesis.words)
    trust = torch.full((len(log_probs),), confidence)
    for word in hypothesis.words:
        trust[word.start_frame : word.end_frame] = word.confidence
    path = torch.from_numpy(best_path(log_probs.numpy(), hypothesis.text, vocabulary))
    language = scores + ctc_losses(log_probs[None], symbols, blank)
    return Reading(texts, symbols, torch.softmax(scores, dim=0), language, confidence, path, trust)


def ctc_losses(logits: Tensor, texts: Sequence[Sequence[int]], blank: int) -> Tensor:
    """-log P(text | audio) of each text's symbols, by logits [1, frames, vocabulary]."""
    log_probs = torch.log_softmax(logits.float(), dim=-1).transpose(0, 1)
    lengths = torch.tensor([len(each) for each in texts])
    labels = torch.tensor([symbol for each in texts for symbol in each])
    frames = torch.full((len(texts),), len(log_probs))
    repeated = log_probs.expand(-1, len(texts), -1)
    return F.ctc_loss(repeated, labels, frames, lengths, blank=blank, reduction="none", zero_infinity=True)


Form = Callable[[Tensor, Reading, int], Tensor]  # logits [1, frames, vocabulary] and the blank's index to a number


def text(logits: Tensor, reading: Reading, blank: int) -> Tensor:
    mask = torch.ones(logits.shape[:2], dtype=torch.bool)
    return taught_loss(logits, mask, [Lesson(reading.symbols[0], reading.confidence)], blank).sum()


def n_best(logits: Tensor, reading: Reading, blank: int) -> Tensor:
    lengths = torch.tensor([len(each) for each in reading.symbols])
    return (reading.posteriors * ctc_losses(logits, reading.symbols, blank) / lengths).sum()


def words(logits: Tensor, reading: Reading, blank: int) -> Tensor:
    return (reading.trust.square() * path_losses(logits, reading)).mean()


def near(logits: Tensor, reading: Reading, blank: int) -> Tensor:
    losses = path_losses(logits, reading)
    return torch.where(losses.detach() < -math.log(SMALLEST_PROBABILITY), losses, 0).mean()


def risk(logits: Tensor, reading: Reading, blank: int) -> Tensor:
    errors = torch.tensor(
        [[float(word_errors(other, each).errors) for other in reading.texts] for each in reading.texts]
    )
    shares = torch.softmax(reading.language - ctc_losses(logits, reading.symbols, blank), dim=0)
    return (shares * (errors @ reading.posteriors)).sum()


def path_losses(logits: Tensor, reading: Reading) -> Tensor:
    """-log of the probability of the path's symbol: [frames]."""
    return F.cross_entropy(logits[0].float(), reading.path, reduction="none")


FORMS: dict[str, Form] = {"text": text, "n-best": n_best, "words": words, "near": near, "risk": risk}


class ReadingTeacher(DecoderTeacher):
    """Hands on all that the beam search reads, as the lesson of one utterance."""

    def __call__(self, logits: Tensor, frame_mask: Tensor) -> list[Any]:
        log_probs = torch.log_softmax(logits[0].float(), dim=-1)
        return [read(self._decoder.decode(log_probs), log_probs, self._vocabulary, self._ids[BLANK])]


def loss_of(form: Form) -> Callable[..., Tensor]:
    """In the place of `adaptation.procedure.taught_loss`."""

    def loss(logits: Tensor, frame_mask: Tensor, readings: Sequence[Reading | None], blank: int) -> Tensor:
        (reading,) = readings
        return (logits.sum() * 0 if reading is None else form(logits, reading, blank))[None]

    return loss


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--ttt_learning_rate", type=float, default=0.05)
    arguments = parser.parse_args()
    with one_line_errors():
        _compare(arguments)


def _compare(arguments: argparse.Namespace) -> None:
    model = load(arguments.checkpoint)
    options = DecodingOptions(beam_size=50, n_best=10, weights_dir=model.folder)
    decoders = BeamDecoders.make(options, model.vocabulary)
    teacher = ReadingTeacher(decoders.plain, model.vocabulary)
    greedy = GreedyDecoder(model.vocabulary)
    errors: dict[tuple[str, int], tuple[Errors, Errors]] = defaultdict(lambda: (defaultdict(dict), defaultdict(dict)))

    def count(method: tuple[str, int], condition: str, utterance: Utterance, logits: Tensor) -> None:
        log_probs = torch.log_softmax(logits[0].float(), dim=-1)
        with_beam = decoders.plain if method == NONE else decoders.adapted
        for of_decoder, decoder in zip(errors[method], (greedy, with_beam), strict=True):
            found = decoder.decode(log_probs).text
            of_decoder[condition][utterance.id] = word_errors(utterance.text or "", found)

    for task in read_tasks(arguments):
        for utterance in task.utterances:
            samples = corrupt(load_samples(utterance), task.condition, utterance.id, seed=SEED)
            inputs = model.prepare([samples])
            count(NONE, task.name, utterance, model.recognize(inputs)[0])
            for name, form in FORMS.items():
                for steps in STEPS:
                    ttt = AdaptationOptions(
                        loss_type="lm",
                        parameters="fast_weights",
                        learning_rate=arguments.ttt_learning_rate,
                        steps=steps,
                        speed=model.default_options.speed,
                    )
                    with patch("lact_asr_model.adaptation.procedure.taught_loss", loss_of(form)):
                        count((name, steps), task.name, utterance, adapt(model, inputs, ttt, teacher=teacher).logits)
    _print(errors)


Errors = dict[str, dict[str, ErrorCounts]]  # by condition and utterance


def _print(errors: dict[tuple[str, int], tuple[Errors, Errors]]) -> None:
    print("| form | steps | greedy: WER % | minus none (95 %) | with the language model: WER % | minus none (95 %) |")
    print("|---|---|---|---|---|---|")
    by_decoder = {
        method: [[ConditionErrors(each) for each in of_decoder.values()] for of_decoder in of_decoders]
        for method, of_decoders in errors.items()
    }
    for (name, steps), of_decoders in by_decoder.items():
        cells = list[str]()
        for own, others in zip(of_decoders, by_decoder[NONE], strict=True):
            cells += rate_cells(own, others)
        print(f"| {name} | {steps or ''} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
