"""Adaptation to one utterance (TTT): a self-supervised loss over all of it moves its own copy of some weights.

    encoder -> stack -> loss -> gradient -> a Muon step or two on the copies -> recognise again

`fast_weights` moves the initial fast weights of every layer, W <- renorm(W - step NewtonSchulz(gradient)); the conv
encoder then runs only once. `front_end` moves the conv filters, each by a share of its own norm. Every utterance of a
batch has its own copies, so a batch adapts as its utterances would one by one. The model's parameters are never written
to. (The memory that every layer builds in every forward pass is another thing: it starts from the fast weights that
are adapted here.)

The answer can be the mean of those before and after (`unadapted_share`): adaptation makes a model surer of what it
says, also where it is wrong, and the mean keeps alternatives for a language model to choose from.

Training goes through the very same steps, with gradients (`adapted_for_training`).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from lact_asr_model.inference.ttt_losses import consistency_loss, entropy_loss, entropy_mcc_loss, mean_entropy
from lact_asr_model.inference.ttt_options import MASKS_PER_SEED, TTTOptions
from lact_asr_model.inference.ttt_weights import OwnWeights, moved, own_weights
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC
from lact_asr_model.ops.fast_weights import FastWeights
from lact_asr_model.ops.span_mask import sample_span_mask

_SMALLEST_SHARE_OF_SYMBOLS = 0.5


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The outcome of adapting a batch.

    weights: a copy per utterance of what was to move. start: where they came from.
    losses: [steps, batch], each measured before its step; 0 for a step that was not needed.
    features: [batch, frames, hidden], from the adapted encoder. frame_mask: bool [batch, frames], True = real.
    """

    weights: OwnWeights
    start: OwnWeights = field(repr=False)
    losses: Tensor
    features: Tensor = field(repr=False)
    frame_mask: Tensor = field(repr=False)
    model: HybridASRForCTC = field(repr=False)
    known_logits: Tensor | None = field(default=None, repr=False)

    @property
    def fast_weights(self) -> list[FastWeights]:
        """The initial fast weights of every block, with a leading dimension of batch, or 1 where they did not move."""
        return self.weights.fast_weights_of_all_layers(self.model) or self.model.initial_fast_weights()

    @property
    def front_end(self) -> dict[str, Tensor]:
        """The conv filters of every utterance by name; empty where they were not to move."""
        return self.weights.front_end

    @cached_property
    def is_adapted(self) -> Tensor:
        """bool [batch]: whether any weight of the utterance moved."""
        pairs = zip(self.weights.tensors, self.start.tensors, strict=True)
        return torch.stack([(now != before).flatten(1).any(dim=1) for now, before in pairs]).any(dim=0)

    @cached_property
    def logits(self) -> Tensor:
        """The batch recognised with its adapted weights: [batch, frames, vocab], computed when first asked for.

        With an `unadapted_share`, the weighted mean of its log-probabilities before and after adaptation.
        """
        if self.known_logits is not None:
            return self.known_logits
        with evaluation_mode(self.model), torch.no_grad():
            return _recognize(self.model, self.features, self.frame_mask, self.weights)


def adapt(
    model: HybridASRForCTC,
    input_values: Tensor,
    attention_mask: Tensor | None,
    options: TTTOptions,
    start: OwnWeights | None = None,
) -> Adaptation:
    """Adapt every utterance of a batch to itself.

    May be called under `torch.no_grad()` or `torch.inference_mode()`. Dropout is off meanwhile; afterwards the model
    is as it was. An utterance without frames or without gradient, or with one that is not finite, keeps its weights.
    The encoder runs once, or once more than there are steps where they move the front end.

    Args:
        model: the recogniser; neither its parameters nor their `.grad` change.
        input_values: [batch, samples], normalised as for `model.forward`.
        attention_mask: [batch, samples], 1 = real; None = all.
        options: see `TTTOptions`.
        start: the weights to start from, such as those of an earlier adaptation; None = the model's own.

    Raises:
        UserError: the front end is to be adapted, but the model has a log-mel one, without weights; or a layer that
            the model does not have.
    """
    with torch.inference_mode(False), torch.no_grad(), evaluation_mode(model), frozen(model):
        start = start or own_weights(model, len(input_values), options)
        attention_mask = None if attention_mask is None else attention_mask.clone()
        speech = _Speech(model, input_values.detach().clone(), attention_mask, start, options)
        weights = start
        losses = torch.zeros(options.steps, len(input_values), device=input_values.device)
        first: _Forward | None = None
        for step in range(options.steps):
            forward = _run(model, speech, weights, options, step)
            if forward is None:
                break
            losses[step] = forward.losses.detach()
            if first is None:
                first = forward
                learns = _unsure(model, first, options)
            if not learns.any():
                return _unadapted(first, speech, losses)
            weights = moved(weights, forward.gradients(), model, options, learns)
        adaptation = Adaptation(weights, start, losses, *speech.encode(weights), model)
        if first is None or not (options.accept or options.unadapted_share):
            return adaptation
        unadapted = _unadapted(first, speech, losses)
        if options.accept:
            adaptation = _better(adaptation, unadapted, options)
        if options.unadapted_share:
            mean = mean_of_answers(unadapted.logits, adaptation.logits, options.unadapted_share)
            adaptation = replace(adaptation, known_logits=mean)
        return adaptation


@contextmanager
def adapted(
    model: HybridASRForCTC,
    input_values: Tensor,
    attention_mask: Tensor | None = None,
    options: TTTOptions | None = None,
) -> Iterator[Adaptation]:
    """Inside the `with`, the model (in evaluation mode) uses the weights adapted to this batch; then it is as before.

    Args:
        model: the recogniser.
        input_values: [batch, samples], normalised as for `model.forward`.
        attention_mask: [batch, samples], 1 = real; None = all.
        options: None = those of the model's config.

    Yields:
        The adaptation; its `logits` are those of `model(input_values, attention_mask)` in here, but for an
        `unadapted_share`, which the model alone knows nothing of.
    """
    options = options or TTTOptions.from_config(model.config)
    with evaluation_mode(model):
        adaptation = adapt(model, input_values, attention_mask, options)
        with adaptation.weights.in_use(model):
            yield adaptation


@contextmanager
def adapted_for_training(
    model: HybridASRForCTC,
    input_values: Tensor,
    attention_mask: Tensor | None,
    options: TTTOptions,
    *,
    exact: bool = False,
) -> Iterator[None]:
    """Inside the `with`, a loss of the model on this batch has the gradient of a model that adapts before it answers.

    The steps are those of `adapt`, dropout off; a gate (`skip_entropy`, `accept`) has no part in them. The gradient
    reaches the model's weights where the steps started from them, and the learned scales of the steps.

    Args:
        exact: also differentiate how the steps' directions depend on the weights (second order: about twice the memory
            and time, the memory of one step at a time with gradient checkpointing); otherwise they are constants (first
            order), and a step leaves nothing behind. What a loss itself holds constant, the target of
            masked prediction and the other view of consistency, stays constant.
    """
    weights = own_weights(model, len(input_values), options)
    with evaluation_mode(model), torch.set_grad_enabled(exact):
        speech = _Speech(model, input_values, attention_mask, weights, options)
    everyone = torch.ones(len(input_values), dtype=torch.bool, device=input_values.device)

    def take_step(step: int, *tensors: Tensor) -> list[Tensor]:
        at = weights.filled_with(tensors)
        with evaluation_mode(model), _attention_differentiable_twice() if exact else nullcontext():
            forward = _run(model, speech, at, options, step, exact=exact)
            stepped = at if forward is None else moved(at, forward.gradients(), model, options, everyone)
        return stepped.tensors

    recomputes = exact and any(block.gradient_checkpointing for block in model.layers)
    for step in range(options.steps):
        if recomputes:
            tensors = checkpoint(take_step, step, *weights.tensors, use_reentrant=False)
        else:
            tensors = take_step(step, *weights.tensors)
        weights = weights.filled_with(tensors)
    with weights.in_use(model):
        yield


def self_supervised_losses(
    model: HybridASRForCTC,
    features: Tensor,
    frame_mask: Tensor,
    options: TTTOptions,
    *,
    step: int = 0,
    fast_weights: list[FastWeights] | None = None,
) -> Tensor:
    """The loss that step number `step` lowers, [batch].

    Masks depend only on `options.seed`, `step` and an utterance's own length.
    """
    return _losses_and_logits(model, features, frame_mask, options, step, fast_weights)[0]


def mean_of_answers(unadapted: Tensor, adapted: Tensor, unadapted_share: float) -> Tensor:
    """The weighted mean of the log-probabilities of two answers, each given as logits [..., vocab]."""
    return torch.lerp(torch.log_softmax(adapted, dim=-1), torch.log_softmax(unadapted, dim=-1), unadapted_share)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Dropout and LayerDrop off; afterwards every module is in the mode in which it was."""
    training_modules = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training_modules:
            module.training = True


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient, which saves what its gradient would need; afterwards all are as before."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _attention_differentiable_twice() -> AbstractContextManager[None]:
    """Attention's fused kernels have no second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


class _Speech:
    """A batch of utterances: encoded once, or anew each time if the filters are to move.

    The steps listen to the first `max_seconds` of each.
    """

    def __init__(
        self,
        model: HybridASRForCTC,
        input_values: Tensor,
        attention_mask: Tensor | None,
        weights: OwnWeights,
        options: TTTOptions,
    ) -> None:
        limit = round(options.max_seconds * model.config.sampling_rate) or input_values.shape[1]
        self.is_cut = limit < input_values.shape[1]
        self._model = model
        self._whole = input_values, attention_mask
        self._beginning = input_values[:, :limit], None if attention_mask is None else attention_mask[:, :limit]
        self._encoded = None if weights.front_end else model.encode(*self._whole)

    def encode_beginning(self, weights: OwnWeights) -> tuple[Tensor, Tensor]:
        """features [batch, frames, hidden] and frame_mask bool [batch, frames] of what the steps listen to."""
        if self._encoded is None:
            return self._model.encode(*self._beginning, weights.front_end)
        num_frames = self._model.config.num_frames(self._beginning[0].shape[1])
        features, frame_mask = self._encoded
        return features[:, :num_frames], frame_mask[:, :num_frames]

    def encode(self, weights: OwnWeights) -> tuple[Tensor, Tensor]:
        """The same of the whole utterances."""
        return self._encoded or self._model.encode(*self._whole, weights.front_end)


@dataclass(frozen=True, eq=False)
class _Forward:
    """A pass before a step: what was encoded, the losses [batch], and the logits where the loss needs them.

    `weights` are those of `start`, ready for `gradients`.
    """

    model: HybridASRForCTC
    start: OwnWeights
    weights: OwnWeights
    encoded: tuple[Tensor, Tensor]
    losses: Tensor
    logits_of_loss: Tensor | None
    exact: bool

    @cached_property
    def logits(self) -> Tensor:
        """Of the whole, unmasked utterances: [batch, frames, vocab]."""
        if self.logits_of_loss is not None:
            return self.logits_of_loss
        with torch.no_grad():
            return _recognize(self.model, *self.encoded, self.weights)

    def gradients(self) -> OwnWeights:
        with torch.enable_grad():
            total = self.losses.sum()
        return self.weights.filled_with(torch.autograd.grad(total, self.weights.tensors, create_graph=self.exact))


def _run(
    model: HybridASRForCTC, speech: _Speech, weights: OwnWeights, options: TTTOptions, step: int, *, exact: bool = False
) -> _Forward | None:
    """One pass with gradients for the weights; None for a batch that is too short for any frame.

    `exact` keeps the graph that the weights themselves come from.
    """
    at = weights.map(lambda tensor: tensor if exact and tensor.requires_grad else tensor.detach().requires_grad_())
    with torch.set_grad_enabled(exact or bool(at.front_end)):
        features, frame_mask = speech.encode_beginning(at)
    if not frame_mask.any():
        return None
    with torch.enable_grad():
        fast_weights = at.fast_weights_of_all_layers(model)
        losses, logits = _losses_and_logits(model, features, frame_mask, options, step, fast_weights)
    logits = None if logits is None else logits.detach()
    return _Forward(model, weights, at, (features.detach(), frame_mask), losses, logits, exact)


def _losses_and_logits(
    model: HybridASRForCTC,
    features: Tensor,
    frame_mask: Tensor,
    options: TTTOptions,
    step: int,
    fast_weights: list[FastWeights] | None,
) -> tuple[Tensor, Tensor | None]:
    """The losses [batch], and the logits of the whole, unmasked utterances if the loss comes from them."""

    def hidden(view: int | None = None) -> tuple[Tensor, Tensor | None]:
        """The stack's output, with a number for a view of which spans are hidden."""
        span_mask = None if view is None else _span_mask(frame_mask, options, step, view)
        return model.run_stack(features, frame_mask, span_mask=span_mask, fast_weights=fast_weights), span_mask

    if options.loss_type == "masked_prediction":
        predicted, span_mask = hidden(view=0)
        assert span_mask is not None
        return model.masked_prediction_loss(predicted, features, span_mask), None
    if options.loss_type == "consistency":
        one, other = (model.classify(hidden(view)[0], frame_mask) for view in (0, 1))
        return consistency_loss(one, other, frame_mask), None
    loss = {"entropy": entropy_loss, "entropy_mcc": entropy_mcc_loss}[options.loss_type]
    logits = model.classify(hidden()[0], frame_mask)
    return loss(logits, frame_mask, options.temperature, model.config.pad_token_id), logits


def _span_mask(frame_mask: Tensor, options: TTTOptions, step: int, view: int) -> Tensor:
    lengths = frame_mask.sum(dim=1).tolist()
    seed = (options.seed * MASKS_PER_SEED + step) * 2 + view
    mask = sample_span_mask(
        lengths, frame_mask.shape[1], options.mask_prob, options.mask_span_frames, [seed] * len(lengths)
    )
    return mask.to(frame_mask.device)


def _recognize(model: HybridASRForCTC, features: Tensor, frame_mask: Tensor, weights: OwnWeights) -> Tensor:
    fast_weights = weights.fast_weights_of_all_layers(model)
    return model.classify(model.run_stack(features, frame_mask, fast_weights=fast_weights), frame_mask)


def _unsure(model: HybridASRForCTC, forward: _Forward, options: TTTOptions) -> Tensor:
    """Gate before the steps: which utterances are worth adapting to, bool [batch]."""
    if options.skip_entropy == 0:
        return torch.ones_like(forward.losses, dtype=torch.bool)
    entropies = mean_entropy(forward.logits, forward.encoded[1], options.temperature, model.config.pad_token_id)
    return entropies >= options.skip_entropy


def _unadapted(first: _Forward, speech: _Speech, losses: Tensor) -> Adaptation:
    """The utterances with the weights of the first step, without a second pass if that step has heard them whole."""
    if speech.is_cut:
        return Adaptation(first.start, first.start, losses, *speech.encode(first.start), first.model)
    return Adaptation(first.start, first.start, losses, *first.encoded, first.model, first.logits)


def _better(adapted: Adaptation, unadapted: Adaptation, options: TTTOptions) -> Adaptation:
    """Gate after the steps: the adaptation, undone where there is no evidence that it helped."""
    frame_mask, blank = adapted.frame_mask, adapted.model.config.pad_token_id
    both = unadapted.logits, adapted.logits
    before, after = (mean_entropy(logits, frame_mask, options.temperature, blank) for logits in both)
    symbols_before, symbols_after = ((logits.argmax(dim=-1) != blank).sum(dim=1) for logits in both)
    accepted = (after < before) & (symbols_after >= _SMALLEST_SHARE_OF_SYMBOLS * symbols_before)
    rows = accepted[:, None, None]
    return replace(
        adapted,
        weights=adapted.weights.where(accepted, unadapted.weights),
        features=torch.where(rows, adapted.features, unadapted.features),
        known_logits=torch.where(rows, adapted.logits, unadapted.logits),
    )
