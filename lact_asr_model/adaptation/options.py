"""How to adapt: every option is one field here, which configuration, command line and documentation read."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lact_asr_model.errors import UserError

ALL_LAYERS = "all"
SELF_SUPERVISED = ("masked_prediction", "entropy", "entropy_mcc")
TAUGHT = ("lm", "lm_entropy_mcc")
LOSS_TYPES = SELF_SUPERVISED + TAUGHT
SPEEDS = ("exact", "fast")
MODES = ("episodic", "continual")
GROUPS = ("fast_weights", "front_end", "norms", "attention", "suta")  # a model has some of them
BOTH = "both"
MOST_STEPS = 1000


def _option(
    help: str,
    *,
    metavar: str,
    choices: Sequence[str] | None = None,
    at_least: float = 0,
    above: float | None = None,
    below: float = math.inf,
    at_most: float = math.inf,
) -> dict[str, Any]:
    """What the command line and the validation need to know about a field."""
    limits = {"at_least": at_least, "above": above, "below": below, "at_most": at_most}
    return {"help": help, "metavar": metavar, "choices": choices, **limits}


@dataclass(frozen=True)
class AdaptationOptions:
    """How to adapt; each field is the configuration's `ttt_...` and the command line's `--ttt_...` of that name.

    loss_type "entropy_mcc" is entropy with minimum class confusion, "lm" the CTC loss of what a beam search with a
    language model reads before adaptation, "lm_entropy_mcc" the sum of both. parameters are names of weight groups
    joined by "+", or "both" for front_end+fast_weights; `layers` are those of every group but front_end, and all start
    at 0. A recording's seed decides the masks.

    Raises:
        UserError: a value that cannot be used.
    """

    loss_type: str = field(
        default="masked_prediction", metadata=_option(", ".join(LOSS_TYPES), metavar="LOSS", choices=LOSS_TYPES)
    )
    steps: int = field(
        default=1, metadata=_option("Muon steps per utterance, usually 1 or 2", metavar="N", below=MOST_STEPS)
    )
    steps_with_lm: int = field(
        default=0,
        metadata=_option(
            "steps where a beam search with a language model follows; 0: as many as otherwise",
            metavar="N",
            below=MOST_STEPS,
        ),
    )
    mask_prob: float = field(
        default=0.15, metadata=_option("share of the frames that masked prediction hides", metavar="SHARE", below=1)
    )
    mask_span_frames: int = field(
        default=10, metadata=_option("length of a hidden span of frames", metavar="N", at_least=1)
    )
    learning_rate: float = field(
        default=0.01,
        metadata=_option(
            "size of a fast-weight step: all singular values of a matrix move by about this much", metavar="SIZE"
        ),
    )
    front_end_step: float = field(
        default=0.01,
        metadata=_option(
            "size of a step of all other weights, a share of each layer's norm (vectors, as in norms: a tenth of it)",
            metavar="SHARE",
        ),
    )
    parameters: str = field(
        default="fast_weights",
        metadata=_option(
            "what moves: fast_weights, front_end (the conv filters), norms, attention; several joined by +, or both "
            "for front_end+fast_weights",
            metavar="WHICH",
        ),
    )
    layers: str = field(
        default=ALL_LAYERS, metadata=_option("blocks whose weights move: all, or such as 0-3,7", metavar="LIST")
    )
    conv_layers: str = field(
        default=ALL_LAYERS, metadata=_option("conv layers whose filters move, likewise", metavar="LIST")
    )
    exit_layer: int = field(
        default=0,
        metadata=_option(
            "the steps run only up to the intermediate head after so many blocks; 0: to the last head", metavar="N"
        ),
    )
    max_seconds: float = field(
        default=0.0, metadata=_option("adapt to the first S seconds of a recording; 0: to all", metavar="S")
    )
    temperature: float = field(
        default=2.5, metadata=_option("the entropy losses divide the logits by it", metavar="T", above=0)
    )
    skip_entropy: float = field(
        default=0.0, metadata=_option("leave recordings alone whose mean entropy is below", metavar="NATS")
    )
    unadapted_share: float = field(
        default=0.0,
        metadata=_option(
            "weight of the log-probabilities before adaptation in the answer; 0: the adapted ones alone, 1: those "
            "before alone, so that a stream learns for the recordings to come, and no pass follows the steps",
            metavar="SHARE",
            at_most=1,
        ),
    )
    speed: str = field(
        default="exact",
        metadata=_option(
            "exact, or fast: the steps are taken in bfloat16 where the device has it, and their gradients leave out "
            "how the layer memory updates itself; the last pass is exact",
            metavar="SPEED",
            choices=SPEEDS,
        ),
    )
    mode: str = field(
        default="episodic",
        metadata=_option(
            "episodic, or continual: recordings are a stream whose weights are carried on",
            metavar="MODE",
            choices=MODES,
        ),
    )
    reset_every: int = field(
        default=0, metadata=_option("a stream starts anew after N recordings; 0: never", metavar="N")
    )
    stream_decay: float = field(
        default=0.0,
        metadata=_option(
            "share of what a stream has learned that it forgets after a recording", metavar="SHARE", below=1
        ),
    )
    seed: int = field(default=0, metadata=_option("of the masks", metavar="N"))

    def __post_init__(self) -> None:
        for option in fields(self):
            check_option(option, getattr(self, option.name), f"TTT option {option.name}")

    def before_language_model(self) -> "AdaptationOptions":
        """These options where a beam search with a language model decodes what the model says then."""
        return replace(self, steps=self.steps_with_lm) if self.steps_with_lm else self

    @property
    def is_taught(self) -> bool:
        """Whether the loss needs a teacher."""
        return self.loss_type in TAUGHT

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the weight groups that move."""
        return ("front_end", "fast_weights") if self.parameters == BOTH else tuple(self.parameters.split("+"))


def model_options() -> list[dataclasses.Field]:
    """The options that a configuration has, as `ttt_...`: all but the seed."""
    return [option for option in fields(AdaptationOptions) if option.name != "seed"]


def options_from_config(config: Any, **changes: Any) -> AdaptationOptions:
    """The config's `ttt_...` fields, or the defaults where it has none; a change of None leaves the config's value."""
    values: dict[str, Any] = {
        option.name: getattr(config, f"ttt_{option.name}", option.default) for option in model_options()
    }
    return AdaptationOptions(**values | {name: value for name, value in changes.items() if value is not None})


def check_option(option: dataclasses.Field, value: Any, name: str) -> None:
    """Raise a UserError that begins with `name` unless the option can have this value."""
    kind, metadata = type(option.default), option.metadata
    valid = {int: "a whole number", float: "a finite number", str: "text"}[kind]
    is_valid = type(value) is kind or (kind is float and type(value) is int)
    if is_valid and kind is str:
        if metadata["choices"] is not None:
            is_valid, valid = value in metadata["choices"], "one of " + ", ".join(metadata["choices"])
        elif option.name in ("layers", "conv_layers"):
            try:
                parse_layers(value)
            except ValueError as error:
                is_valid, valid = False, str(error)
        else:
            is_valid, valid = names_groups(value), f"{BOTH}, or one or more of {', '.join(GROUPS)}, joined by +"
    elif is_valid:
        least, above, below, most = (metadata[name] for name in ("at_least", "above", "below", "at_most"))
        is_valid = least <= value < below and value <= most and (above is None or value > above)
        valid += f" above {above:g}" if above is not None else f" of {least:g} or more"
        valid += f" and below {below:g}" if below < math.inf else f" and at most {most:g}" if most < math.inf else ""
    if not is_valid:
        raise UserError(f"{name} is {value!r}; it must be {valid}")


def names_groups(text: str) -> bool:
    """Whether this is a value of the option `parameters`."""
    return text == BOTH or set(text.split("+")) <= set(GROUPS)


def parse_layers(text: str, num_layers: int = 1000) -> Sequence[int]:
    """The numbers, in order, of layers such as "0-3,7", or "all".

    Raises:
        ValueError: the text is something else, or names a layer that there is not; it says what is valid.
    """
    if text == ALL_LAYERS:
        return range(num_layers)
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ValueError(f'"{ALL_LAYERS}" or numbers from 0 such as "0-3,7"')
        if int(last or first) >= num_layers:
            raise ValueError(f"layers from 0 to {num_layers - 1}")
        numbers.update(range(int(first), int(last or first) + 1))
    return sorted(numbers)
