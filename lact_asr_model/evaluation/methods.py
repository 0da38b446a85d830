"""The names of methods on the command line: what adapts, and in how many steps."""

from collections.abc import Iterator
from dataclasses import dataclass

from lact_asr_model.adaptation.options import LOSS_TYPES, names_groups
from lact_asr_model.errors import UserError
from lact_asr_model.evaluation.summary import BASELINE

PEER_NAMES = ("tent", "suta", "suta_mean", "suta_lm", "li_tta")
OURS = "ttt"
CONTINUAL = "continual"
METHODS = (
    "none, tent, suta, suta_mean, suta_lm, li_tta, ttt, ttt_fast_weights, ttt_front_end, ttt_both, continual (with the "
    "same endings; both with @LOSS behind them, if you like)"
)


@dataclass(frozen=True)
class Method:
    """A method of adapting.

    name: as in the results, such as "ttt_front_end:2". algorithm: "none", a peer's name, "ttt" or "continual". steps:
    None = its own default. ttt_parameters, loss_type: what "ttt" and "continual" adapt, and down which loss; None =
    what the options say.
    """

    name: str
    algorithm: str
    steps: int | None = None
    ttt_parameters: str | None = None
    loss_type: str | None = None

    @property
    def adapts(self) -> bool:
        """Whether it adapts at all."""
        return self.algorithm != BASELINE

    @property
    def is_stream(self) -> bool:
        """Whether an utterance starts from the weights that the one before it left."""
        return self.algorithm == CONTINUAL


def parse_methods(methods: str, steps: str | None = None) -> list[Method]:
    """Read "none,suta:5,ttt_front_end@lm:2", a list of NAME or NAME:STEPS; each method once, in this order.

    Args:
        methods: the list; a part after "ttt_" or "continual_" is the set of parameters that it adapts,
            and a part after "@" its loss.
        steps: "1,2,5" repeats every method that has no steps of its own, except none, with each of these.

    Raises:
        UserError: an unknown name, or steps that are no number from 1 up.
    """
    counts = [] if steps is None else [_parse_steps(part, f"--steps {steps}") for part in steps.split(",")]
    return list(dict.fromkeys(method for text in methods.split(",") for method in _parse(text.strip(), counts)))


def _parse(text: str, counts: list[int]) -> Iterator[Method]:
    name, colon, number = text.partition(":")
    start, at, loss_type = name.partition("@")
    algorithm, _, ttt_parameters = (start, "", "") if start in PEER_NAMES else start.partition("_")
    ours = (OURS, CONTINUAL)
    is_known = start in (BASELINE, *PEER_NAMES, *ours) or (algorithm in ours and names_groups(ttt_parameters))
    if at and (algorithm not in ours or loss_type not in LOSS_TYPES):
        raise UserError(f"method '{text}': a loss goes with ttt and continual; it is one of {', '.join(LOSS_TYPES)}")
    if not is_known:
        raise UserError(f"method '{text}': unknown; choose from {METHODS}, each with :STEPS if you like")
    if name == BASELINE:
        if colon:
            raise UserError(f"method '{text}': it takes no steps; write none")
        yield Method(name, name)
    elif colon:
        yield Method(
            text, algorithm, _parse_steps(number, f"method '{text}'"), ttt_parameters or None, loss_type or None
        )
    elif counts:
        for count in counts:
            yield Method(f"{name}:{count}", algorithm, count, ttt_parameters or None, loss_type or None)
    else:
        yield Method(name, algorithm, None, ttt_parameters or None, loss_type or None)


def _parse_steps(text: str, where: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise UserError(f"{where}: '{text}' is not a number of steps; give 1 or more")
    return int(text)
