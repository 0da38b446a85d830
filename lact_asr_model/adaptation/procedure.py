"""Adaptation to one utterance (TTT): a self-supervised loss over all of it moves its own copy of some weights.

    hear -> loss -> gradient -> a Muon step or two on the copies -> recognise again

Every utterance of a batch has its own copies, so a batch adapts as its utterances would one by one. The copies are
arguments of the model's forward pass: the model itself is never changed. The unadapted answer comes from the first
step's own pass.

The answer can be the mean of those before and after (`unadapted_share`): adaptation makes a model surer of what it
says, also where it is wrong, and the mean keeps alternatives for a language model to choose from.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lact_asr_model.adaptation.losses import LOGIT_LOSSES, mean_entropy
from lact_asr_model.adaptation.options import AdaptationOptions, parse_layers
from lact_asr_model.adaptation.protocol import AdaptableModel, Heard, Speech, WeightGroup, Weights
from lact_asr_model.adaptation.steps import Size, take_step
from lact_asr_model.errors import UserError
from lact_asr_model.ops.masks import sample_span_mask


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The outcome of adapting a batch.

    weights: a copy per utterance of what was to move, by name. start: where they came from.
    losses: [steps, batch], each measured before its step; 0 for a step that was not needed.
    logits: [batch, frames, vocabulary], the answer; with an `unadapted_share`, the weighted mean of the
    log-probabilities before and after. frame_mask: bool [batch, frames], True = real.
    unadapted_logits: the same before the first step, None where nothing asked for it.
    """

    weights: Weights
    start: Weights = field(repr=False)
    losses: Tensor
    logits: Tensor = field(repr=False)
    frame_mask: Tensor = field(repr=False)
    unadapted_logits: Tensor | None = field(default=None, repr=False)

    @cached_property
    def is_adapted(self) -> Tensor:
        """bool [batch]: whether any weight of the utterance moved."""
        moved = [(weight != self.start[name]).flatten(1).any(dim=1) for name, weight in self.weights.items()]
        return torch.stack(moved).any(dim=0)


@dataclass(frozen=True, eq=False)
class MovingWeights:
    """What the options let move in a model: the weights by name, how far, and how.

    learned: the model's own. sizes, keeps_column_norms: as in `steps.take_step`.
    """

    learned: dict[str, Tensor]
    sizes: dict[str, Size]
    keeps_column_norms: dict[str, bool]
    schedule: str

    def copies(self, num_utterances: int) -> Weights:
        """The learned weights, seen once by every utterance: views, with the parameters' gradient."""
        return {name: weight.expand(num_utterances, *weight.shape) for name, weight in self.learned.items()}

    def step(self, weights: Weights, gradients: Weights, learns: Tensor) -> Weights:
        """The weights after a Muon step down the gradients, for the utterances of `learns`, bool [batch]."""
        norms = self.keeps_column_norms
        return take_step(weights, gradients, self.sizes, learns, keeps_column_norms=norms, schedule=self.schedule)


def moving_weights(model: AdaptableModel, options: AdaptationOptions) -> MovingWeights:
    """The weights that the options choose.

    Raises:
        UserError: a group or a layer that the model does not have.
    """
    groups = model.weight_groups()
    chosen = MovingWeights({}, {}, {}, model.newton_schulz_schedule)
    for name in options.groups:
        group = groups.get(name)
        if group is None or not group.layers:
            raise UserError(
                f"TTT option parameters is {options.parameters!r}; this model has no {name} to move, it has "
                f"{', '.join(name for name, group in groups.items() if group.layers)}"
            )
        size = options.learning_rate if group.keeps_column_norms else options.front_end_step
        for index in _chosen_layers(group, options, "conv_layers" if name == "front_end" else "layers"):
            for weight_name, weight in group.layers[index].items():
                chosen.learned[weight_name] = weight
                chosen.sizes[weight_name] = size * group.step_scales.get(weight_name, 1.0)
                chosen.keeps_column_norms[weight_name] = group.keeps_column_norms
    return chosen


def adapt(
    model: AdaptableModel,
    inputs: Mapping[str, Tensor],
    options: AdaptationOptions,
    start: Weights | None = None,
) -> Adaptation:
    """Adapt every utterance of a batch to itself, and recognise it.

    May be called under `torch.no_grad()` or `torch.inference_mode()`. An utterance without frames or without gradient,
    or with one that is not finite, keeps its weights.

    Args:
        model: the recogniser; nothing of it changes.
        inputs: the arguments of its forward pass: samples [batch, samples] and, if padded, their mask.
        options: see `AdaptationOptions`.
        start: the weights to start from, such as those of an earlier adaptation; None = the model's own.

    Raises:
        UserError: the model does not have what the options ask for.
    """
    with torch.inference_mode(False), torch.no_grad():
        moving = moving_weights(model, options)
        inputs = {name: values.clone() for name, values in inputs.items()}
        speech = model.listen(
            inputs, moving.learned.keys(), exit_layer=options.exit_layer, max_seconds=options.max_seconds
        )
        num_utterances = len(next(iter(inputs.values())))
        weights = start = start or moving.copies(num_utterances)
        losses = torch.zeros(options.steps, num_utterances, device=speech.frame_mask.device)
        learns = torch.ones(num_utterances, dtype=torch.bool, device=losses.device)
        unadapted: tuple[Tensor, Tensor] | None = None
        for step in range(options.steps if speech.frame_mask.any() else 0):
            listening = _listen(model, speech, weights, options)
            losses[step] = listening.losses.detach()
            if step == 0 and (options.skip_entropy or options.unadapted_share):
                unadapted = listening.answer()
                if options.skip_entropy:
                    learns = mean_entropy(*unadapted, options.temperature, model.blank_id) >= options.skip_entropy
                if not learns.any():
                    return Adaptation(start, start, losses, *unadapted, unadapted[0])
            weights = moving.step(weights, listening.gradients(), learns)
        logits, frame_mask = speech.recognize(weights)
        if unadapted is None:
            return Adaptation(weights, start, losses, logits, frame_mask)
        if options.unadapted_share:
            logits = mean_of_answers(unadapted[0], logits, options.unadapted_share)
        return Adaptation(weights, start, losses, logits, frame_mask, unadapted[0])


def adapt_for_training(
    model: AdaptableModel,
    inputs: Mapping[str, Tensor],
    options: AdaptationOptions,
    *,
    exact: bool = False,
    recompute: bool = False,
    around_step: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Weights:
    """The weights adapted to a batch, with the gradient of a model that adapts before it answers.

    The steps are those of `adapt`; `skip_entropy` has no part in them. The gradient reaches the model's weights where
    the steps started from them, and the learned scales of the steps.

    Args:
        exact: also differentiate how the steps' directions depend on the weights (second order: about twice the memory
            and time); otherwise they are constants (first order), and a step leaves nothing behind. What a loss itself
            holds constant, the target of masked prediction, stays constant.
        recompute: with `exact`, hold the memory of one step at a time, and compute each once more.
        around_step: makes a context that a step runs in, such as one where the model is in evaluation mode.
    """
    moving = moving_weights(model, options)
    names = list(moving.learned)
    weights = moving.copies(len(next(iter(inputs.values()))))
    with torch.set_grad_enabled(exact), around_step():
        speech = model.listen(inputs, names, exit_layer=options.exit_layer, max_seconds=options.max_seconds)
    if not speech.frame_mask.any():
        return weights
    everyone = torch.ones_like(speech.frame_mask[:, 0])

    def take_one(*tensors: Tensor) -> tuple[Tensor, ...]:
        at = dict(zip(names, tensors, strict=True))
        with around_step():
            gradients = _listen(model, speech, at, options, exact=exact).gradients()
            return tuple(moving.step(at, gradients, everyone).values())

    for _ in range(options.steps):
        if recompute:
            tensors = checkpoint(take_one, *weights.values(), use_reentrant=False)
        else:
            tensors = take_one(*weights.values())
        weights = dict(zip(names, tensors, strict=True))
    return weights


def self_supervised_losses(
    model: AdaptableModel, speech: Speech, weights: Weights, options: AdaptationOptions
) -> tuple[Tensor, Heard | None]:
    """The losses [batch] that the steps lower, and the pass that they come from if nothing was hidden in it.

    Masks depend only on `options.seed` and an utterance's own length.
    """
    if options.loss_type == "masked_prediction":
        span_mask = _span_mask(speech.frame_mask, options)
        return speech.predict_masked(weights, span_mask), None
    heard = speech.hear(weights)
    loss = LOGIT_LOSSES[options.loss_type]
    return loss(heard.logits, speech.frame_mask, options.temperature, model.blank_id), heard


def mean_of_answers(unadapted: Tensor, adapted: Tensor, unadapted_share: float) -> Tensor:
    """The weighted mean of the log-probabilities of two answers, each given as logits [..., vocabulary]."""
    return torch.lerp(torch.log_softmax(adapted, dim=-1), torch.log_softmax(unadapted, dim=-1), unadapted_share)


@dataclass(frozen=True, eq=False)
class _Listening:
    """A pass before a step: its losses [batch], and the weights that they have gradients to."""

    speech: Speech
    weights: Weights
    losses: Tensor
    heard: Heard | None
    exact: bool

    def gradients(self) -> Weights:
        with torch.enable_grad():
            total = self.losses.sum()
        moving = list(self.weights.values())
        gradients = torch.autograd.grad(total, moving, create_graph=self.exact, materialize_grads=True)
        return dict(zip(self.weights, gradients, strict=True))

    def answer(self) -> tuple[Tensor, Tensor]:
        """Logits and frame mask of the whole utterances, without a second pass if this one has heard them whole."""
        if self.heard is None or self.speech.is_cut:
            return self.speech.recognize(self.weights)
        return self.heard.answer(), self.speech.frame_mask


def _listen(
    model: AdaptableModel, speech: Speech, weights: Weights, options: AdaptationOptions, exact: bool = False
) -> _Listening:
    """One pass with gradients for the weights; `exact` keeps the graph that they themselves come from."""
    at = {
        name: weight if exact and weight.requires_grad else weight.detach().requires_grad_()
        for name, weight in weights.items()
    }
    with torch.enable_grad():
        losses, heard = self_supervised_losses(model, speech, at, options)
    return _Listening(speech, at, losses, heard, exact)


def _span_mask(frame_mask: Tensor, options: AdaptationOptions) -> Tensor:
    """The same in every step, so that the losses of two steps can be compared."""
    lengths = frame_mask.sum(dim=1).tolist()
    seeds = [options.seed] * len(lengths)
    mask = sample_span_mask(lengths, frame_mask.shape[1], options.mask_prob, options.mask_span_frames, seeds)
    return mask.to(frame_mask.device)


def _chosen_layers(group: WeightGroup, options: AdaptationOptions, name: str) -> Sequence[int]:
    value = getattr(options, name)
    try:
        return parse_layers(value, len(group.layers))
    except ValueError as error:
        raise UserError(f"TTT option {name} is {value!r}; it must be {error}") from None
