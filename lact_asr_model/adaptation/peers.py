"""Published adaptations of a CTC recogniser to one utterance, to measure ours against.

    tent        norms, entropy
    suta        norms and the whole front end, entropy and minimum class confusion
    suta_mean   SUTA with what it lacks beside ours: its answer is the mean of those before and after
    suta_lm     SUTA that stops at the step whose greedy text a language model finds most probable
    li_tta      SUTA that also learns a text from outside: here what a beam search with a language model reads, where
                the authors let a large language model correct the greedy text

All take steps of AdamW on some of the weights, start every utterance from the model as it was (episodic), and work on
any model of the protocol that has the group "norms" (Tent) or "suta" (every norm, the conv encoder and the feature
projection). SUTA's public code registers each front-end tensor several times, so that one of its steps moves them
three to four times as far as the paper's formula at the same rate; this is the formula.

Sources: Wang et al. 2021, "Tent", arXiv:2006.10726; Lin et al. 2022, "Listen, adapt, better WER" (SUTA),
arXiv:2203.14222; Huang et al. 2025, "SUTA-LM", arXiv:2506.11121; Yoon et al. 2024, "LI-TTA", arXiv:2408.05769.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lact_asr_model.adaptation.lessons import Lesson, Teacher, taught_loss
from lact_asr_model.adaptation.losses import LOGIT_LOSSES
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import Adaptation, mean_of_answers, moving_weights
from lact_asr_model.adaptation.protocol import AdaptableModel
from lact_asr_model.errors import UserError


@dataclass(frozen=True)
class Peer:
    """An adaptation with AdamW (without weight decay).

    loss_type, temperature, unadapted_share: as in `AdaptationOptions`.
    group: the weights that move.
    steps: how many; 10 as published.
    learning_rate: of AdamW; the published one suits models of about 100 M parameters.
    is_taught: whether the loss of a teacher's lesson, per symbol, is added. stops_by_text: answer from the step whose
        text the teacher finds most plausible.

    Raises:
        UserError: a learning rate that cannot be used.
    """

    loss_type: str
    temperature: float
    group: str
    steps: int = 10
    learning_rate: float = 2e-5
    unadapted_share: float = 0.0
    is_taught: bool = False
    stops_by_text: bool = False

    @property
    def needs_teacher(self) -> bool:
        """Whether it asks a language model."""
        return self.is_taught or self.stops_by_text

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"learning rate {self.learning_rate} of tent and suta: must be a finite number above 0")


PEERS = {
    "tent": Peer("entropy", temperature=1.0, group="norms"),
    "suta": Peer("entropy_mcc", temperature=2.5, group="suta"),
    "suta_mean": Peer("entropy_mcc", temperature=2.5, group="suta", unadapted_share=0.5),
    "suta_lm": Peer("entropy_mcc", temperature=2.5, group="suta", stops_by_text=True),
    "li_tta": Peer("entropy_mcc", temperature=2.5, group="suta", is_taught=True),
}


def adapt_with_peer(
    model: AdaptableModel, inputs: Mapping[str, Tensor], peer: Peer, teacher: Teacher | None = None
) -> Adaptation:
    """Adapt to one utterance and recognise it; nothing of the model changes.

    A step whose gradient is not finite is not taken, and is the last. May be called under `torch.no_grad()`.

    Args:
        model: any model of the protocol.
        inputs: arguments of its forward pass for one utterance without padding.
        peer: what moves, down which loss, and how often.
        teacher: for those that ask a language model.

    Raises:
        UserError: the model has no such weights, or a teacher is missing.
    """
    if peer.needs_teacher and teacher is None:
        raise UserError("methods suta_lm and li_tta: ask a language model; give a beam size of 50")
    loss = LOGIT_LOSSES[peer.loss_type]
    with torch.inference_mode(False), torch.no_grad():
        inputs = {name: values.clone() for name, values in inputs.items()}
        options = AdaptationOptions(parameters=peer.group)
        start = moving_weights(model, options).copies(1)
        speech = model.listen(inputs, start.keys(), options)
        weights = {name: weight.clone().requires_grad_() for name, weight in start.items()}
        moving = list(weights.values())
        optimizer = torch.optim.AdamW(moving, lr=peer.learning_rate, weight_decay=0.0)
        losses = torch.zeros(peer.steps, 1)
        unadapted: Tensor | None = None
        lessons: list[Lesson] = []
        chosen = _MostPlausible(teacher if peer.stops_by_text else None)
        for step in range(peer.steps):
            with torch.enable_grad():
                heard = speech.hear(weights)
            answer = heard.answer()
            if unadapted is None:
                unadapted = answer
                if peer.is_taught and teacher is not None:
                    lessons = teacher(unadapted, speech.frame_mask)
            chosen.look_at(answer, speech.frame_mask, weights)
            with torch.enable_grad():
                total = loss(heard.logits, speech.frame_mask, peer.temperature, model.blank_id).sum()
                if lessons:
                    total = total + taught_loss(heard.logits, speech.frame_mask, lessons, model.blank_id).sum()
            losses[step] = total.item()
            gradients = torch.autograd.grad(total, moving, allow_unused=True)
            if not all(gradient is None or gradient.isfinite().all() for gradient in gradients):
                break
            for weight, gradient in zip(moving, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
        adapted = {name: weight.detach() for name, weight in weights.items()}
        logits, frame_mask = speech.recognize(adapted)
        chosen.look_at(logits, frame_mask, adapted)
        if chosen.weights is not None:
            logits, adapted = chosen.logits, chosen.weights
        if peer.unadapted_share and unadapted is not None:
            logits = mean_of_answers(unadapted, logits, peer.unadapted_share)
        return Adaptation(adapted, start, losses, logits, frame_mask, unadapted)


class _MostPlausible:
    """The answer so far whose text the teacher finds most plausible; the earlier one of equals."""

    def __init__(self, teacher: Teacher | None) -> None:
        self._teacher = teacher
        self._best = -float("inf")
        self.logits = torch.empty(0)
        self.weights: dict[str, Tensor] | None = None

    def look_at(self, logits: Tensor, frame_mask: Tensor, weights: Mapping[str, Tensor]) -> None:
        if self._teacher is None:
            return
        plausibility = self._teacher.plausibility(logits, frame_mask)
        if plausibility > self._best:
            self._best, self.logits = plausibility, logits
            self.weights = {name: weight.detach().clone() for name, weight in weights.items()}
