"""Published adaptations of a CTC recogniser to one utterance, to measure ours against: Tent and SUTA.

"suta_mean" is SUTA with what it lacks beside ours: its answer is the mean of those before and after.

Both take steps of AdamW on some of the weights, start every utterance from the model as it was (episodic), and work on
any model of the protocol that has the group "norms" (Tent) or "suta" (every norm, the conv encoder and the feature
projection). SUTA's public code registers each front-end tensor several times, so that one of its steps moves them
three to four times as far as the paper's formula at the same rate; this is the formula.

Sources: Wang et al. 2021, "Tent", arXiv:2006.10726; Lin et al. 2022, "Listen, adapt, better WER" (SUTA),
arXiv:2203.14222.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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

    Raises:
        UserError: a learning rate that cannot be used.
    """

    loss_type: str
    temperature: float
    group: str
    steps: int = 10
    learning_rate: float = 2e-5
    unadapted_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"learning rate {self.learning_rate} of tent and suta: must be a finite number above 0")


PEERS = {
    "tent": Peer("entropy", temperature=1.0, group="norms"),
    "suta": Peer("entropy_mcc", temperature=2.5, group="suta"),
    "suta_mean": Peer("entropy_mcc", temperature=2.5, group="suta", unadapted_share=0.5),
}


def adapt_with_peer(model: AdaptableModel, inputs: Mapping[str, Tensor], peer: Peer) -> Adaptation:
    """Adapt to one utterance and recognise it; nothing of the model changes.

    A step whose gradient is not finite is not taken, and is the last. May be called under `torch.no_grad()`.

    Args:
        model: any model of the protocol.
        inputs: arguments of its forward pass for one utterance without padding.
        peer: what moves, down which loss, and how often.

    Raises:
        UserError: the model has no such weights.
    """
    loss = LOGIT_LOSSES[peer.loss_type]
    with torch.inference_mode(False), torch.no_grad():
        inputs = {name: values.clone() for name, values in inputs.items()}
        start = moving_weights(model, AdaptationOptions(parameters=peer.group)).copies(1)
        speech = model.listen(inputs, start.keys())
        weights = {name: weight.clone().requires_grad_() for name, weight in start.items()}
        moving = list(weights.values())
        optimizer = torch.optim.AdamW(moving, lr=peer.learning_rate, weight_decay=0.0)
        losses = torch.zeros(peer.steps, 1)
        unadapted: Tensor | None = None
        for step in range(peer.steps):
            with torch.enable_grad():
                heard = speech.hear(weights)
                total = loss(heard.logits, speech.frame_mask, peer.temperature, model.blank_id).sum()
            if unadapted is None:
                unadapted = heard.answer()
            losses[step] = total.item()
            gradients = torch.autograd.grad(total, moving, allow_unused=True)
            if not all(gradient is None or gradient.isfinite().all() for gradient in gradients):
                break
            for weight, gradient in zip(moving, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
        adapted = {name: weight.detach() for name, weight in weights.items()}
        logits, frame_mask = speech.recognize(adapted)
        if peer.unadapted_share and unadapted is not None:
            logits = mean_of_answers(unadapted, logits, peer.unadapted_share)
        return Adaptation(adapted, start, losses, logits, frame_mask, unadapted)
