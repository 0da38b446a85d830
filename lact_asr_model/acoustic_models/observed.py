"""How sure a model is at each step of adaptation, noted while it adapts: no pass is made for it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.adaptation.losses import LOGIT_LOSSES, mean_entropy
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.protocol import Heard, Speech, WeightGroup, Weights


@dataclass(frozen=True)
class StepPoint:
    """After so many steps: the loss that the steps lower, and the mean entropy in nats of the frames that say
    something; NaN where no pass has shown it."""

    loss: float
    entropy: float


class ObservedModel(AcousticModel):
    """A model that answers as the one it wraps, and keeps what `adaptation.procedure.adapt` hears with it.

    What follows the last step is known where the steps listen to the whole utterance and to the last head.

    Args:
        model: shared, never changed.
        options: those that it will be adapted with.
    """

    def __init__(self, model: AcousticModel, options: AdaptationOptions) -> None:
        for name in AcousticModel.__annotations__:
            setattr(self, name, getattr(model, name))
        self._observed = model
        self._options = options
        self._points: list[list[StepPoint]] = []

    def step_points(self) -> list[StepPoint]:
        """Before the first step, and after each, as far as all that was heard went; the mean over several segments."""
        return [
            StepPoint(*np.mean([(point.loss, point.entropy) for point in points], axis=0).tolist())
            for points in zip(*self._points, strict=False)
        ]

    def prepare(self, recordings: Sequence[np.ndarray]) -> dict[str, Tensor]:
        return self._observed.prepare(recordings)

    def recognize(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self._observed.recognize(inputs)

    def weight_groups(self) -> Mapping[str, WeightGroup]:
        return self._observed.weight_groups()

    def listen(self, inputs: Mapping[str, Tensor], names: Collection[str], options: AdaptationOptions) -> Speech:
        speech = self._observed.listen(inputs, names, options)
        observed = _ObservedSpeech(speech, self._options, self.blank_id)
        self._points.append(observed.points)
        return observed


class _ObservedSpeech:
    """See `adaptation.protocol.Speech`."""

    def __init__(self, speech: Speech, options: AdaptationOptions, blank_id: int) -> None:
        self._speech = speech
        self._options = options
        self._blank_id = blank_id
        self._last_weights: Weights | None = None
        self.points: list[StepPoint] = []

    @property
    def frame_mask(self) -> Tensor:
        return self._speech.frame_mask

    @property
    def is_cut(self) -> bool:
        return self._speech.is_cut

    def hear(self, weights: Weights) -> Heard:
        heard = self._speech.hear(weights)
        self._note(heard.logits, self.frame_mask)
        self._last_weights = weights
        return heard

    def predict_masked(self, weights: Weights, span_mask: Tensor) -> Tensor:
        losses = self._speech.predict_masked(weights, span_mask)
        self.points.append(StepPoint(losses.detach().mean().item(), math.nan))
        self._last_weights = weights
        return losses

    def recognize(self, weights: Weights) -> tuple[Tensor, Tensor]:
        logits, frame_mask = self._speech.recognize(weights)
        is_noted_already = weights is self._last_weights
        if not (is_noted_already or self.is_cut or self._options.exit_layer):
            self._note(logits, frame_mask)
        return logits, frame_mask

    def _note(self, logits: Tensor, frame_mask: Tensor) -> None:
        temperature = self._options.temperature
        loss_of = LOGIT_LOSSES.get(self._options.loss_type)
        with torch.no_grad():
            loss = loss_of(logits, frame_mask, temperature, self._blank_id).mean().item() if loss_of else math.nan
            entropy = mean_entropy(logits, frame_mask, temperature, self._blank_id).mean().item()
        self.points.append(StepPoint(loss, entropy))
