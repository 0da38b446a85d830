"""Which answer to an utterance, the one before adaptation, one after it or a mixture? Decided without a reference.

    lact-asr evaluate --subset DEV --conditions CONDITIONS --methods none,ttt:1,ttt:2 --ttt_unadapted_share 0 \\
        --beam_size 50 --output_dir OUTPUT_DIR
    python studies/decide_per_utterance.py OUTPUT_DIR [--checkpoint PATH]

The log-probabilities in OUTPUT_DIR are combined and decoded anew, greedily and with the language model (its weights for
adapted speech, and for the answer before adaptation those for plain speech). Printed: a row for each rule with the mean
over the conditions of the word error rate, and what changes from the mean of the logarithms before and after one step
(paired 95 % interval over utterances). "certainty" is exp(-entropy of a frame, mean over frames that are not blank).
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cells import rate_cells
from records import read_records

from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.decoding.greedy import GreedyDecoder
from lact_asr_model.decoding.hypothesis import Decoder, Hypothesis
from lact_asr_model.decoding.options import DecodingOptions
from lact_asr_model.errors import UserError, one_line_errors
from lact_asr_model.evaluation.decodings import BeamDecoders
from lact_asr_model.evaluation.emission_store import EmissionStore
from lact_asr_model.metrics import ConditionErrors, word_errors
from lact_asr_model.text import normalize_text

METHODS = ("none", "ttt:1", "ttt:2")
REFERENCE_RULE = "mean of logarithms, 1 step"
Answers = list[np.ndarray]  # log-probabilities [frames, vocabulary] before adaptation, after one step, after two


@dataclass(frozen=True)
class Decoders:
    """What decodes the answer before adaptation, and every other one."""

    plain: Decoder
    adapted: Decoder

    def decode(self, log_probs: np.ndarray, *, is_plain: bool = False) -> Hypothesis:
        return (self.plain if is_plain else self.adapted).decode(log_probs)


Rule = Callable[[Answers, Decoders, int], Hypothesis]  # the last argument is the index of the blank


def mean_of_logarithms(step: int, share: float = 0.5) -> Rule:
    """`share` is that of the answer before adaptation."""
    return lambda answers, decoders, blank: decoders.decode(_mixed(answers[0], answers[step], share))


def mean_of_probabilities(step: int) -> Rule:
    return lambda answers, decoders, blank: decoders.decode(
        np.logaddexp(answers[0], answers[step]) - np.float32(np.log(2))
    )


def share_by_certainty(step: int) -> Rule:
    """The logarithms of both answers, each weighed by its certainty."""

    def decide(answers: Answers, decoders: Decoders, blank: int) -> Hypothesis:
        before, after = (certainty(answer, blank) for answer in (answers[0], answers[step]))
        return decoders.decode(_mixed(answers[0], answers[step], before / (before + after)))

    return decide


def plain_if_certain(step: int, threshold: float) -> Rule:
    """The answer before adaptation where it is that certain, else the mean of the logarithms."""

    def decide(answers: Answers, decoders: Decoders, blank: int) -> Hypothesis:
        if certainty(answers[0], blank) >= threshold:
            return decoders.decode(answers[0], is_plain=True)
        return decoders.decode(_mixed(answers[0], answers[step], 0.5))

    return decide


def best_score(candidates: Callable[[Answers], list[np.ndarray]]) -> Rule:
    """The candidate that its decoder gives the best score a frame, as SUTA-LM chooses the number of steps."""

    def decide(answers: Answers, decoders: Decoders, blank: int) -> Hypothesis:
        return max((decoders.decode(answer) for answer in candidates(answers)), key=lambda found: found.score)

    return decide


RULES: dict[str, Rule] = {
    "before adaptation": lambda answers, decoders, blank: decoders.decode(answers[0], is_plain=True),
    "after 1 step": mean_of_logarithms(1, 0.0),
    "after 2 steps": mean_of_logarithms(2, 0.0),
    REFERENCE_RULE: mean_of_logarithms(1),
    "mean of logarithms, 2 steps": mean_of_logarithms(2),
    "mean of probabilities, 1 step": mean_of_probabilities(1),
    "mean of probabilities, 2 steps": mean_of_probabilities(2),
    "share by certainty, 1 step": share_by_certainty(1),
    "share by certainty, 2 steps": share_by_certainty(2),
    "before if its certainty is 0.8 or more, else the mean, 1 step": plain_if_certain(1, 0.8),
    "before if its certainty is 0.7 or more, else the mean, 1 step": plain_if_certain(1, 0.7),
    "best score of 0, 1 and 2 steps": best_score(list),
    "best score of the means after 1 and 2 steps": best_score(
        lambda answers: [_mixed(answers[0], after, 0.5) for after in answers[1:]]
    ),
}


def certainty(log_probs: np.ndarray, blank: int) -> float:
    """exp(-entropy), the entropy in nats a frame, mean over the frames whose best symbol is not the blank."""
    spoken = log_probs[log_probs.argmax(axis=1) != blank]
    return float(np.exp((np.exp(spoken) * spoken).sum(axis=1).mean())) if len(spoken) else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--checkpoint", help="the evaluated model (default: the bundled one)")
    parser.add_argument("--beam_size", type=int, default=50)
    arguments = parser.parse_args()
    with one_line_errors():
        print_table(arguments.output_dir, arguments.checkpoint, arguments.beam_size)


def print_table(folder: Path, checkpoint: str | None, beam_size: int) -> None:
    """Print a row for each rule."""
    model = load(checkpoint)
    beams = BeamDecoders.make(DecodingOptions(beam_size, weights_dir=model.folder), model.vocabulary)
    greedy = GreedyDecoder(model.vocabulary)
    decodings = {"greedy": Decoders(greedy, greedy), "beam and LM": Decoders(beams.plain, beams.adapted)}
    answers, references = read_answers(folder)
    print("| answer | greedy: WER % | change (95 %) | beam and LM: WER % | change (95 %) |")
    print("|---|---|---|---|---|")
    errors = {
        (rule, name): _errors(RULES[rule], answers, references, decoders, model.blank_id)
        for rule in RULES
        for name, decoders in decodings.items()
    }
    for rule in RULES:
        cells = list[str]()
        for name in decodings:
            cells += rate_cells(errors[rule, name], errors[REFERENCE_RULE, name])
        print(f"| {rule} | {' | '.join(cells)} |")


def read_answers(folder: Path) -> tuple[dict[str, dict[str, Answers]], dict[str, str]]:
    """The answers by condition and utterance, and the references by utterance. Raises UserError."""
    store = EmissionStore(folder / "emissions")
    answers: dict[str, dict[str, Answers]] = defaultdict(dict)
    references = {}
    for record in read_records(folder):
        condition, name = record["condition"], record["id"]
        references[name] = record["ref"]
        keys = [(condition, method, name) for method in METHODS]
        if any(key not in store for key in keys):
            raise UserError(f"{folder}: has no log-probabilities of {', '.join(METHODS)}; see --help for the command")
        if name not in answers[condition]:
            answers[condition][name] = [np.concatenate(store.read(key)) for key in keys]
    shares = json.loads((folder / "settings.json").read_text())["ttt"]["unadapted_share"]
    if shares:
        raise UserError(f"{folder}: was made with an unadapted share of {shares}; give --ttt_unadapted_share 0")
    return answers, references


def _errors(
    rule: Rule, answers: dict[str, dict[str, Answers]], references: dict[str, str], decoders: Decoders, blank: int
) -> Sequence[ConditionErrors]:
    return [
        ConditionErrors(
            {
                name: word_errors(references[name], normalize_text(rule(of_utterance, decoders, blank).text))
                for name, of_utterance in of_condition.items()
            }
        )
        for of_condition in answers.values()
    ]


def _mixed(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    return np.float32(share) * before + np.float32(1 - share) * after


if __name__ == "__main__":
    main()
