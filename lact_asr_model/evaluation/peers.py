"""Published adaptations of a CTC recogniser to one utterance, to measure ours against: Tent and SUTA.

"suta_mean" is SUTA with what it lacks beside ours: its answer is the mean of those before and after.

Both take steps of AdamW on some of the parameters, start every utterance from the model as it was (episodic), and work
on any CTC model of `transformers`. What moves are copies of the parameters: the model runs with them in the place of
its own, which are never written to.

Sources: Wang et al. 2021, "Tent", arXiv:2006.10726; Lin et al. 2022, "Listen, adapt, better WER" (SUTA),
arXiv:2203.14222.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from lact_asr_model.errors import UserError
from lact_asr_model.inference.ttt_losses import entropy_loss, entropy_mcc_loss
from lact_asr_model.inference.ttt_procedure import evaluation_mode, frozen, mean_of_answers
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC


@dataclass(frozen=True)
class Peer:
    """An adaptation with AdamW (without weight decay).

    loss: (logits, frame_mask, temperature, blank_id) -> [batch], as in `inference.ttt_losses`.
    temperature: the loss divides the logits by it.
    adapts_front_end: whether the conv encoder and the feature projection move too, not only every LayerNorm.
    steps: how many, if nothing else is asked for.
    learning_rate: of AdamW; the published one suits models of about 100 M parameters.
    unadapted_share: as in `TTTOptions`.

    Raises:
        UserError: a learning rate that cannot be used.
    """

    loss: Callable[[Tensor, Tensor, float, int], Tensor]
    temperature: float
    adapts_front_end: bool
    steps: int = 10
    learning_rate: float = 2e-5
    unadapted_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"learning rate {self.learning_rate} of tent and suta: must be a finite number above 0")


PEERS = {
    "tent": Peer(entropy_loss, temperature=1.0, adapts_front_end=False),
    "suta": Peer(entropy_mcc_loss, temperature=2.5, adapts_front_end=True),
    "suta_mean": Peer(entropy_mcc_loss, temperature=2.5, adapts_front_end=True, unadapted_share=0.5),
}


@dataclass(frozen=True, eq=False)
class PeerAdaptation:
    """The outcome of adapting to an utterance.

    logits: [1, frames, vocab], of the answer. losses: one for each step, measured before it.
    parameters: the adapted copies, by their names in the model.
    """

    logits: Tensor
    losses: list[float]
    parameters: dict[str, Tensor]


def adapt_with_peer(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], peer: Peer, steps: int | None = None
) -> PeerAdaptation:
    """Adapt to one utterance and recognise it. Dropout is off meanwhile; afterwards the model is as it was.

    A step whose gradient is not finite is not taken, and is the last. May be called under `torch.no_grad()`.

    Args:
        model: any CTC model; neither its parameters nor their `.grad` change.
        inputs: arguments of `model.forward` for one utterance without padding.
        peer: what moves, and down which loss.
        steps: of AdamW; None = `peer.steps`.

    Raises:
        UserError: the model has no front end that SUTA could adapt.
    """
    names = parameter_names(model, peer.adapts_front_end)
    losses: list[float] = []
    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(model), frozen(model):
        inputs = {name: values.clone() for name, values in inputs.items()}
        parameters = {name: model.get_parameter(name).detach().clone().requires_grad_() for name in names}
        moving = list(parameters.values())
        optimizer = torch.optim.AdamW(moving, lr=peer.learning_rate, weight_decay=0.0)
        for _ in range(peer.steps if steps is None else steps):
            logits = functional_call(model, parameters, kwargs=inputs).logits
            frame_mask = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
            loss = peer.loss(logits, frame_mask, peer.temperature, model.config.pad_token_id).sum()
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward(inputs=moving)
            if not all(copy.grad is None or copy.grad.isfinite().all() for copy in moving):
                break
            optimizer.step()
        with torch.no_grad():
            logits = functional_call(model, parameters, kwargs=inputs).logits
            if peer.unadapted_share:
                logits = mean_of_answers(model(**inputs).logits, logits, peer.unadapted_share)
    return PeerAdaptation(logits, losses, {name: copy.detach() for name, copy in parameters.items()})


def parameter_names(model: PreTrainedModel, with_front_end: bool) -> list[str]:
    """What a peer adapts, each name once: the weights of every LayerNorm, and on demand those of the front end.

    Raises:
        UserError: the front end is asked for, but the model has none that is known here.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    chosen = {id(parameter) for norm in norms for parameter in norm.parameters()}
    if with_front_end:
        front_end = {
            id(parameter) for name, parameter in model.named_parameters() if name.startswith(_front_end_prefixes(model))
        }
        if not front_end:
            raise UserError(f"model {type(model).__name__}: has no conv encoder for SUTA to adapt; use none or tent")
        chosen |= front_end
    return [name for name, parameter in model.named_parameters() if id(parameter) in chosen]


def _front_end_prefixes(model: PreTrainedModel) -> tuple[str, ...]:
    if isinstance(model, HybridASRForCTC):
        return "encoder.", "feature_projection."
    return f"{model.base_model_prefix}.feature_extractor.", f"{model.base_model_prefix}.feature_projection."
