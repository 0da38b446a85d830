"""Quick arithmetic, where the device has it and where it has not."""

from contextlib import nullcontext

import pytest
import torch

from lact_asr_model.ops import precision


@pytest.mark.parametrize("outer", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_without_instructions_for_it_the_surrounding_precision_stays(
    monkeypatch: pytest.MonkeyPatch, outer: torch.dtype | None, has_bfloat16: bool
) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_in_bfloat16", lambda: has_bfloat16)
    ones = torch.ones(2, 2)
    with nullcontext() if outer is None else torch.autocast("cpu", outer), precision.quick_arithmetic(ones.device):
        product = ones @ ones
    assert product.dtype == (torch.bfloat16 if has_bfloat16 else outer or torch.float32)
