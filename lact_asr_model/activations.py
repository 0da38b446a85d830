"""Activation functions by the names that `transformers` gives them."""

from torch import nn

_OF_TORCH = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


def activation(name: str) -> nn.Module:
    """The module of that name.

    Raises:
        KeyError: there is none.
    """
    if name in _OF_TORCH:
        return _OF_TORCH[name]()
    from transformers.activations import ACT2FN  # takes as long to import as torch, so only where it is needed

    return ACT2FN[name]


def activation_names() -> list[str]:
    """All names, for messages."""
    from transformers.activations import ACT2FN

    return list(ACT2FN)
