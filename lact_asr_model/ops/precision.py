"""Which arithmetic a device is quick at."""

from collections.abc import Mapping

import torch


def cpu_multiplies_in_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products; without them, they are far slower than float32's."""
    capabilities: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.11 does not have it
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def quick_arithmetic(device: torch.device) -> torch.autocast:
    """A context with products in bfloat16 where the device has instructions for them, else one without effect."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.autocast("cpu", torch.bfloat16, enabled=device.type == "cpu" and cpu_multiplies_in_bfloat16())
