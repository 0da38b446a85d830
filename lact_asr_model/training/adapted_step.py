"""The batch's own weights in a training through adaptation (--enable_ttt)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import cast

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.adaptation.procedure import adapt_for_training
from lact_asr_model.hybrid_network import HybridNetwork, LactBlock


def adapted_weights(
    acoustic_model: HybridAcousticModel, inputs: Mapping[str, Tensor], *, seed: int, is_exact: bool
) -> dict[str, Tensor]:
    """The weights adapted to a batch of "input_values" and "attention_mask", both [batch, samples].

    The model answers as at inference meanwhile, and recomputes activations if it does so in training.
    """
    model = acoustic_model.model
    return adapt_for_training(
        acoustic_model,
        {name: inputs[name] for name in ("input_values", "attention_mask")},
        replace(acoustic_model.default_options, seed=seed),
        exact=is_exact,
        recompute=is_exact and cast("LactBlock", model.layers[0]).gradient_checkpointing,
        around_step=partial(_adapting, model, is_exact),
    )


@contextmanager
def evaluating(model: HybridNetwork) -> Iterator[None]:
    """Dropout and LayerDrop off; afterwards every module is in the mode in which it was.

    The blocks alone, without their parts, stay in training mode: they have no dropout of their own, and recompute
    activations in this mode only.
    """
    training_modules = [module for module in model.modules() if module.training]
    model.eval()
    for block in model.layers:
        block.training = True
    try:
        yield
    finally:
        model.eval()
        for module in training_modules:
            module.training = True


@contextmanager
def _adapting(model: HybridNetwork, is_exact: bool) -> Iterator[None]:
    """`evaluating`; attention's fused kernels have no second derivative, which the exact gradient needs."""
    with evaluating(model), sdpa_kernel(SDPBackend.MATH) if is_exact else nullcontext():
        yield
