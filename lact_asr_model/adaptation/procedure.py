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
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lact_asr_model.adaptation.lessons import Lesson, Teacher, taught_loss
from lact_asr_model.adaptation.losses import LOGIT_LOSSES, entropy_mcc_loss, mean_entropy
from lact_asr_model.adaptation.options import AdaptationOptions, parse_layers
from lact_asr_model.adaptation.protocol import AdaptableModel, Heard, Speech, WeightGroup, Weights
from lact_asr_model.adaptation.steps import Size, take_step
from lact_asr_model.errors import UserError
from lact_asr_model.ops.masks import sample_span_mask
from lact_asr_model.ops.precision import quick_arithmetic


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
    teacher: Teacher | None = None,
) -> Adaptation:
    """Adapt every utterance of a batch to itself, and recognise it.

    May be called under `torch.no_grad()` or `torch.inference_mode()`. An utterance without frames or without gradient,
    or with one that is not finite, keeps its weights.

    Args:
        model: the recogniser; nothing of it changes.
        inputs: the arguments of its forward pass: samples [batch, samples] and, if padded, their mask.
        options: see `AdaptationOptions`.
        start: the weights to start from, such as those of an earlier adaptation; None = the model's own.
        teacher: what a taught loss learns from; it hears the utterances once, before the first step.

    Raises:
        UserError: the model does not have what the options ask for, or a teacher is missing.
    """
    if options.is_taught and teacher is None:
        raise UserError(
            f"TTT option loss_type is {options.loss_type!r}; it learns from a beam search with a language model, "
            "give a beam size of 50"
        )
    with torch.inference_mode(False), torch.no_grad():
        moving = moving_weights(model, options)
        inputs = {name: values.clone() for name, values in inputs.items()}
        speech = model.listen(inputs, moving.learned.keys(), options)
        num_utterances = len(next(iter(inputs.values())))
        weights = start = start or moving.copies(num_utterances)
        losses = torch.zeros(options.steps, num_utterances, device=speech.frame_mask.device)
        learns = torch.ones(num_utterances, dtype=torch.bool, device=losses.device)
        unadapted: tuple[Tensor, Tensor] | None = None
        lessons: list[Lesson] | None = None
        for step in range(options.steps if speech.frame_mask.any() else 0):
            listening = _listen(model, speech, weights, options)
            if step == 0 and teacher is not None and options.is_taught:
                lessons = teacher(listening.heard_answer(), speech.frame_mask)
            losses_of_step = listening.losses(lessons)
            losses[step] = losses_of_step.detach()
            if step == 0 and (options.skip_entropy or options.unadapted_share):
                unadapted = listening.answer()
                if options.skip_entropy:
                    learns = mean_entropy(*unadapted, options.temperature, model.blank_id) >= options.skip_entropy
                if not learns.any():
                    return Adaptation(start, start, losses, *unadapted, unadapted[0])
            gradients = listening.gradients(losses_of_step)
            with _arithmetic(options, speech.frame_mask):
                weights = moving.step(weights, gradients, learns)
        if unadapted is not None and options.unadapted_share == 1:
            return Adaptation(weights, start, losses, *unadapted, unadapted[0])
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
    options = replace(options, speed="exact") if exact else options
    moving = moving_weights(model, options)
    names = list(moving.learned)
    weights = moving.copies(len(next(iter(inputs.values()))))
    with torch.set_grad_enabled(exact), around_step():
        speech = model.listen(inputs, names, options)
    if not speech.frame_mask.any():
        return weights
    everyone = torch.ones_like(speech.frame_mask[:, 0])

    def take_one(*tensors: Tensor) -> tuple[Tensor, ...]:
        at = dict(zip(names, tensors, strict=True))
        with around_step():
            listening = _listen(model, speech, at, options, exact=exact)
            gradients = listening.gradients(listening.losses())
            with _arithmetic(options, speech.frame_mask):
                return tuple(moving.step(at, gradients, everyone).values())

    for _ in range(options.steps):
        if recompute:
            tensors = checkpoint(take_one, *weights.values(), use_reentrant=False)
        else:
            tensors = take_one(*weights.values())
        weights = dict(zip(names, tensors, strict=True))
    return weights


def losses_to_lower(
    model: AdaptableModel,
    speech: Speech,
    weights: Weights,
    options: AdaptationOptions,
    lessons: Sequence[Lesson] | None = None,
) -> Tensor:
    """The losses [batch] that a step from these weights lowers.

    Args:
        lessons: one for each utterance, if the loss is a taught one.
    """
    return _listen(model, speech, weights, options, exact=True).losses(lessons)


def mean_of_answers(unadapted: Tensor, adapted: Tensor, unadapted_share: float) -> Tensor:
    """The weighted mean of the log-probabilities of two answers, each given as logits [..., vocabulary]."""
    return torch.lerp(torch.log_softmax(adapted, dim=-1), torch.log_softmax(unadapted, dim=-1), unadapted_share)


@dataclass(frozen=True, eq=False)
class _Listening:
    """A pass before a step, whose losses have gradients to the weights.

    heard: None for masked prediction, which hears the utterances with some frames hidden.
    """

    model: AdaptableModel
    speech: Speech
    weights: Weights
    options: AdaptationOptions
    heard: Heard | None
    exact: bool

    def losses(self, lessons: Sequence[Lesson] | None = None) -> Tensor:
        """The losses [batch]; masks depend only on `options.seed` and an utterance's own length."""
        options, frame_mask, blank_id = self.options, self.speech.frame_mask, self.model.blank_id
        with torch.enable_grad():
            if self.heard is None:
                with _arithmetic(options, frame_mask):
                    return self.speech.predict_masked(self.weights, _span_mask(frame_mask, options))
            logits = self.heard.logits
            if not options.is_taught:
                return LOGIT_LOSSES[options.loss_type](logits, frame_mask, options.temperature, blank_id)
            assert lessons is not None
            losses = taught_loss(logits, frame_mask, lessons, blank_id)
            if options.loss_type == "lm_entropy_mcc":
                losses = losses + entropy_mcc_loss(logits, frame_mask, options.temperature, blank_id)
            return losses

    def gradients(self, losses: Tensor) -> Weights:
        with torch.enable_grad():
            total = losses.sum()
        moving = list(self.weights.values())
        gradients = torch.autograd.grad(total, moving, create_graph=self.exact, materialize_grads=True)
        return dict(zip(self.weights, gradients, strict=True))

    def heard_answer(self) -> Tensor:
        """The logits of the last head for what the steps listen to, from this pass."""
        assert self.heard is not None
        with _arithmetic(self.options, self.speech.frame_mask):
            logits = self.heard.answer()
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def answer(self) -> tuple[Tensor, Tensor]:
        """Logits and frame mask of the whole utterances, without a second pass if this one has heard them whole."""
        if self.heard is None or self.speech.is_cut:
            return self.speech.recognize(self.weights)
        return self.heard_answer(), self.speech.frame_mask


def _listen(
    model: AdaptableModel, speech: Speech, weights: Weights, options: AdaptationOptions, exact: bool = False
) -> _Listening:
    """One pass with gradients for the weights; `exact` keeps the graph that they themselves come from."""
    at = {
        name: weight if exact and weight.requires_grad else weight.detach().requires_grad_()
        for name, weight in weights.items()
    }
    heard = None
    if options.loss_type != "masked_prediction":
        with torch.enable_grad(), _arithmetic(options, speech.frame_mask):
            heard = speech.hear(at)
    return _Listening(model, speech, at, options, heard, exact)


def _arithmetic(options: AdaptationOptions, frame_mask: Tensor) -> AbstractContextManager[Any]:
    """What a step is computed in: its own pass and its Newton-Schulz iterations."""
    return quick_arithmetic(frame_mask.device) if options.speed == "fast" else nullcontext()


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
