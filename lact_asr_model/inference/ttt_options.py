"""How to adapt to an utterance: the options of `ttt_procedure`, whose defaults are the configuration's `ttt_...`."""

from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from lact_asr_model.configuration_hybrid_asr import (
    TTT_LOSS_TYPES,
    TTT_MODES,
    TTT_PARAMETERS,
    HybridASRConfig,
    parse_layers,
)
from lact_asr_model.errors import UserError

MASKS_PER_SEED = 2**16
_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
}


@dataclass(frozen=True)
class TTTOptions:
    """How to adapt.

    Args:
        loss_type: "masked_prediction", "entropy", "entropy_mcc" or "consistency".
        mask_prob, mask_span_frames: share of the frames that masked prediction and the two views of consistency hide,
            and length of a hidden span.
        steps: Muon steps per utterance; 0 leaves the weights as they are.
        learning_rate: size of a fast-weight step; all singular values of a matrix move by about this much, times what
            the model has learned for the layer.
        front_end_step: size of a front-end step, as a share of the norm of each layer's filters, times what the model
            has learned for the layer.
        parameters: what is adapted: "fast_weights", "front_end" (the conv filters) or "both".
        layers, conv_layers: the blocks whose fast weights move and the conv layers whose filters move: "all", or
            numbers from 0 such as "0-3,7".
        max_seconds: the steps listen to so much of an utterance, from its beginning, which bounds their time and
            memory; 0 = to all of it.
        temperature: of the entropy losses.
        skip_entropy: an utterance whose mean entropy (nats, at `temperature`, over the frames that are not blank) is
            below it is left alone; 0 = every utterance is adapted.
        accept: keep an utterance's adapted weights only if its entropy fell and at most half of its symbols vanished.
        unadapted_share: the answer is a weighted mean of the log-probabilities before the first step and after the
            last one, and this is the weight of those before; 0 = the adapted weights alone answer.
        mode: "episodic" starts every utterance from the model's own weights, "continual" from those of the utterance
            before it.
        reset_every: a stream of utterances starts anew after so many of them (the segments of a long recording count
            one by one); 0 = never.
        seed: of the masks.

    Raises:
        UserError: a value that cannot be used.
    """

    loss_type: str = HybridASRConfig.ttt_loss_type
    mask_prob: float = HybridASRConfig.ttt_mask_prob
    mask_span_frames: int = HybridASRConfig.ttt_mask_span_frames
    steps: int = HybridASRConfig.ttt_steps
    learning_rate: float = HybridASRConfig.ttt_learning_rate
    front_end_step: float = HybridASRConfig.ttt_front_end_step
    parameters: str = HybridASRConfig.ttt_parameters
    layers: str = HybridASRConfig.ttt_layers
    conv_layers: str = HybridASRConfig.ttt_conv_layers
    max_seconds: float = HybridASRConfig.ttt_max_seconds
    temperature: float = HybridASRConfig.ttt_temperature
    skip_entropy: float = HybridASRConfig.ttt_skip_entropy
    accept: bool = HybridASRConfig.ttt_accept
    unadapted_share: float = HybridASRConfig.ttt_unadapted_share
    mode: str = HybridASRConfig.ttt_mode
    reset_every: int = HybridASRConfig.ttt_reset_every
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_types()
        infinity = float("inf")
        for name, is_valid, valid in (
            ("loss_type", self.loss_type in TTT_LOSS_TYPES, "one of " + ", ".join(TTT_LOSS_TYPES)),
            ("parameters", self.parameters in TTT_PARAMETERS, "one of " + ", ".join(TTT_PARAMETERS)),
            ("mode", self.mode in TTT_MODES, "one of " + ", ".join(TTT_MODES)),
            ("mask_prob", 0 <= self.mask_prob < 1, "in [0, 1)"),
            ("mask_span_frames", self.mask_span_frames >= 1, "1 or more"),
            ("steps", 0 <= self.steps < MASKS_PER_SEED, f"0 to {MASKS_PER_SEED - 1}"),
            ("learning_rate", 0 <= self.learning_rate < infinity, "a finite number, 0 or more"),
            ("front_end_step", 0 <= self.front_end_step < infinity, "a finite number, 0 or more"),
            ("max_seconds", 0 <= self.max_seconds < infinity, "a finite number, 0 or more"),
            ("temperature", 0 < self.temperature < infinity, "a finite number above 0"),
            ("skip_entropy", 0 <= self.skip_entropy < infinity, "a finite number, 0 or more"),
            ("unadapted_share", 0 <= self.unadapted_share < 1, "in [0, 1)"),
            ("reset_every", self.reset_every >= 0, "0 or more"),
            ("seed", self.seed >= 0, "0 or more"),
        ):
            if not is_valid:
                raise UserError(f"TTT option {name} is {getattr(self, name)!r}; it must be {valid}")
        for name in ("layers", "conv_layers"):
            try:
                parse_layers(getattr(self, name))
            except ValueError as error:
                raise UserError(f"TTT option {name} is {getattr(self, name)!r}; it must be {error}") from None

    def _check_types(self) -> None:
        """A number with a fraction is no count, and a truth value is no number."""
        for option in fields(self):
            value = getattr(self, option.name)
            kind, description = _KINDS[type(option.default)]
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise UserError(f"TTT option {option.name} is {value!r}; it must be {description}")

    @classmethod
    def from_config(cls, config: HybridASRConfig, **changes: Any) -> "TTTOptions":
        """The config's `ttt_...` fields; a change of None leaves the config's value."""
        values = {f.name: getattr(config, "ttt_" + f.name) for f in fields(cls) if f.name != "seed"}
        return cls(**values | {name: value for name, value in changes.items() if value is not None})
