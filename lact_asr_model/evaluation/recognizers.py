"""The recogniser of each method of a comparison."""

from dataclasses import replace

import torch

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.adaptation.options import TAUGHT, AdaptationOptions
from lact_asr_model.adaptation.peers import PEERS, Peer
from lact_asr_model.decoding.hypothesis import Decoder
from lact_asr_model.evaluation.methods import CONTINUAL, OURS, Method
from lact_asr_model.recognition.transcriber import Transcriber


def is_taught(method: Method, ttt_options: AdaptationOptions) -> bool:
    """Whether the method needs a teacher."""
    if method.algorithm in PEERS:
        return PEERS[method.algorithm].needs_teacher
    return method.algorithm in (OURS, CONTINUAL) and (method.loss_type or ttt_options.loss_type) in TAUGHT


def make_recognizer(
    method: Method,
    model: AcousticModel,
    ttt_options: AdaptationOptions,
    *,
    teacher: Decoder | None = None,
    keep_emissions: bool = False,
    peer_learning_rate: float | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
) -> Transcriber:
    """A method with a model; `ttt_options` and `peer_learning_rate` (None = as published) say what it does not itself.

    It decodes greedily; `teacher` and `keep_emissions` are as for the transcriber.

    Raises:
        UserError: the method names parameters that there are not, or a learning rate that cannot be used.
    """
    options: AdaptationOptions | Peer | None = None
    if method.algorithm in PEERS:
        peer = PEERS[method.algorithm]
        learning_rate = peer.learning_rate if peer_learning_rate is None else peer_learning_rate
        options = replace(peer, steps=method.steps or peer.steps, learning_rate=learning_rate)
    elif method.algorithm in (OURS, CONTINUAL):
        options = replace(
            ttt_options,
            steps=method.steps or ttt_options.steps,
            parameters=method.ttt_parameters or ttt_options.parameters,
            loss_type=method.loss_type or ttt_options.loss_type,
            mode="continual" if method.is_stream else "episodic",
        )
    return Transcriber(
        model,
        teacher=teacher,
        ttt_options=options,
        device=device,
        batch_size=batch_size,
        keep_emissions=keep_emissions,
    )
