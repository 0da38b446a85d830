"""What a CTC model must offer to be adapted: named weights that may move, and a forward pass that takes others instead.

    groups = model.weight_groups()              # which weights there are, and how a step moves them
    speech = model.listen(inputs, names, options)  # what does not depend on the weights of these names is computed here
    heard = speech.hear(weights)                # logits with these weights, and gradients to them

Weights are arguments and never the state of a module, so that nothing has to be restored and one model can be adapted
in several threads at once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from lact_asr_model.adaptation.options import AdaptationOptions

Weights = dict[str, Tensor]  # by name, each with a leading dimension of one copy per utterance


@dataclass(frozen=True)
class WeightGroup:
    """Weights of one kind.

    layers: the model's own weights by name, layer by layer.
    keeps_column_norms: a step turns a matrix by an absolute amount and gives every column its norm back, as for fast
        weights; otherwise it moves each weight by a share of its norm.
    step_scales: factors of the steps, by name, that a training has learned; 1 where there is none.
    """

    layers: Sequence[Mapping[str, Tensor]]
    keeps_column_norms: bool = False
    step_scales: Mapping[str, Tensor] = field(default_factory=dict)


class Heard(Protocol):
    """One pass over what the steps listen to.

    logits: [batch, frames, vocabulary], those of the head where the steps end, with gradients to the weights.
    """

    @property
    def logits(self) -> Tensor: ...

    def answer(self) -> Tensor:
        """The logits of the last head from the same pass, without gradients: [batch, frames, vocabulary]."""
        ...


class Speech(Protocol):
    """A batch of utterances, ready to be heard with any weights.

    frame_mask: bool [batch, frames], True = real; of what the steps listen to.
    is_cut: whether the steps listen to a part of the utterances only.
    """

    @property
    def frame_mask(self) -> Tensor: ...

    @property
    def is_cut(self) -> bool: ...

    def hear(self, weights: Weights) -> Heard:
        """Recognise what the steps listen to; gradients go to the weights that require them."""
        ...

    def predict_masked(self, weights: Weights, span_mask: Tensor) -> Tensor:
        """The masked-prediction loss [batch] with the frames of span_mask, bool [batch, frames], hidden.

        Raises:
            UserError: the model was not trained to predict masked frames.
        """
        ...

    def recognize(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """Logits [batch, frames, vocabulary] and frame_mask bool [batch, frames] of the whole utterances."""
        ...


class AdaptableModel(Protocol):
    """A CTC model for `adaptation.procedure`, in evaluation mode.

    blank_id: index of the blank. newton_schulz_schedule: of the Muon steps, a key of `ops.newton_schulz.SCHEDULES`.
    """

    blank_id: int
    newton_schulz_schedule: str

    def weight_groups(self) -> Mapping[str, WeightGroup]:
        """The groups of weights that may move, by name."""
        ...

    def listen(self, inputs: Mapping[str, Tensor], names: Collection[str], options: AdaptationOptions) -> Speech:
        """Prepare a batch.

        Args:
            inputs: the arguments of the model's forward pass: samples [batch, samples] and, if padded, their mask.
            names: of the weights that will move; `hear` takes no others.
            options: where the steps end (`exit_layer`), how much they listen to (`max_seconds`), and whether their
                gradients may take the updates of a layer memory for constants (`speed`).

        Raises:
            UserError: there is no such head, or the model takes one utterance at a time.
        """
        ...
