"""Which arithmetic a device is quick at."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def cpu_multiplies_in_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products; without them, they are far slower than float32's."""
    capabilities: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.11 does not have it
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def quick_arithmetic(device: torch.device) -> AbstractContextManager[Any]:
    """A context with products in bfloat16 where the device has instructions for them, else one that changes nothing."""
    if device.type == "cuda":
        is_quick = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_quick = device.type == "cpu" and cpu_multiplies_in_bfloat16()
    return torch.autocast(device.type, torch.bfloat16) if is_quick else nullcontext()
