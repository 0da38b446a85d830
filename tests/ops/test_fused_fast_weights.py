"""The Triton kernels by Triton's interpreter, against the oracle and the closed form, and which of the two runs."""

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.hybrid_network import LactBlock
from lact_asr_model.ops.fast_weights import closed_form, dispatch, naive
from lact_asr_model.ops.fast_weights.closed_form import FastWeights

ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # of the largest value
SHAPES = {  # batch, heads, frames, size of a head, hidden size
    "several of everything": (2, 2, 37, 12, 40),
    "head above a power of two": (2, 1, 33, 17, 16),
    "several splits of the frames": (1, 2, 70, 16, 20),
    "one frame": (1, 1, 1, 16, 32),
}
COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from lact_asr_model.ops.fast_weights import fused

for kernel, number, block, capability in (
    (fused._gradient_kernel, "bf16", 32, 80),
    (fused._gradient_kernel, "bf16", 32, 90),
    (fused._gradient_kernel, "fp32", 16, 80),
    (fused._apply_kernel, "bf16", 32, 90),
):
    constants = {"D": 256, "HIDDEN": block, "FRAMES": block, "PRECISION": "tf32"}
    types = {"sums": "*fp32", "rates": "*fp32", **dict.fromkeys(constants, "constexpr")}
    types |= dict.fromkeys(("copies", "frames", "frames_per_split", "d", "h"), "i32")
    signature = {name: types.get(name, f"*{number}") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    made = compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8, "num_stages": 1})
    print(capability, made.metadata.shared)
"""


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The kernels, to be interpreted on the CPU."""
    pytest.importorskip("triton", reason="Triton, a part of PyTorch for CUDA, is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    from lact_asr_model.ops.fast_weights import fused

    return fused


@pytest.fixture
def on_gpu(fused: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the decision take a CPU for a GPU."""
    monkeypatch.setattr(dispatch, "_is_on_gpu", lambda x: True)
    dispatch._try_fused.cache_clear()


class Inputs:
    """Random inputs; the last frames of the last utterance have no learning rate, but large keys and values."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, is_shared: bool = False) -> None:
        batch, heads, frames, d, h = shape
        generator = torch.Generator().manual_seed(0)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator)

        copies = 1 if is_shared else batch
        matrices = (
            normal(copies, heads, d, h) / d**0.5,
            normal(copies, heads, h, d) / h**0.5,
            normal(copies, heads, d, h) / d**0.5,
        )
        self.weights = FastWeights(*(matrix.to(dtype) for matrix in matrices))
        keys, values = normal(batch, frames, heads, d), normal(batch, frames, heads, d)  # heads within frames, as in
        self.learning_rates = F.softplus(normal(3, batch, heads, frames))  # the layer: not contiguous
        if frames > 1:
            self.learning_rates[:, -1, :, -7:] = 0
            keys[-1, -7:] *= 30
            values[-1, -7:] *= 30
        self.keys = F.normalize(keys, dim=-1).transpose(1, 2).to(dtype)
        self.values = F.silu(values).transpose(1, 2).to(dtype)

    def exact(self) -> tuple[FastWeights, Tensor, Tensor, Tensor]:
        """For the oracle: the same numbers in float64."""
        rest = (self.keys.double(), self.values.double(), self.learning_rates.double())
        return FastWeights(*(matrix.double() for matrix in self.weights)), *rest


def deviation(ours: Tensor, right: Tensor) -> float:
    right = right.detach()
    return float((ours.double() - right).abs().max() / right.abs().max())


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_kernels_compute_what_the_oracle_does(
    fused: ModuleType, shape: tuple[int, ...], dtype: torch.dtype, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_FRAMES_PER_SPLIT", 40)
    inputs = Inputs(shape, dtype, is_shared)
    sums = fused.fast_weight_gradient(*inputs.weights, inputs.keys, inputs.values, inputs.learning_rates)
    assert sums.dtype == torch.float32
    expected = naive.fast_weight_gradient(*inputs.exact())
    for step, right in zip((sums[0], sums[1].mT, sums[2]), expected, strict=True):
        assert deviation(step, right) < ROUNDING[dtype]
    answers = fused.apply_fast_weights(*inputs.weights, inputs.keys)
    assert answers.dtype == dtype
    assert deviation(answers, naive.apply_fast_weights(inputs.exact()[0], inputs.keys.double())) < ROUNDING[dtype]


def test_no_frames_give_a_step_of_zero(fused: ModuleType) -> None:
    inputs = Inputs((1, 2, 0, 16, 20))
    sums = fused.fast_weight_gradient(*inputs.weights, inputs.keys, inputs.values, inputs.learning_rates)
    assert sums.shape == (3, 1, 2, 16, 20) and not sums.any()
    assert fused.apply_fast_weights(*inputs.weights, inputs.keys).shape == (1, 2, 0, 16)


def test_pytorch_knows_the_shapes_of_the_operators(fused: ModuleType) -> None:
    inputs = Inputs((2, 2, 20, 12, 16), is_shared=True)
    arguments = (*inputs.weights, inputs.keys, inputs.values, inputs.learning_rates)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(fused.fast_weight_gradient, arguments, test_utils=checks)
    torch.library.opcheck(fused.apply_fast_weights, arguments[:4], test_utils=checks)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("muon", [True, False])
def test_an_update_by_the_kernels_equals_one_by_the_closed_form(
    fused: ModuleType, muon: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = Inputs((2, 2, 37, 12, 24), is_shared=True)
    arguments = (inputs.weights, inputs.keys, inputs.values, inputs.learning_rates)
    expected = closed_form.update_fast_weights(*arguments, muon=muon)
    assert dispatch.uses_fused(*arguments)
    for matrix, right in zip(dispatch.update_fast_weights(*arguments, muon=muon), expected, strict=True):
        assert matrix.dtype == right.dtype and deviation(matrix, right) < 1e-4
    answers = dispatch.apply_fast_weights(inputs.weights, inputs.keys, chunk_size=10)
    assert deviation(answers, closed_form.apply_fast_weights(inputs.weights, inputs.keys)) < 1e-5


@pytest.mark.usefixtures("on_gpu")
def test_a_layer_with_the_kernels_compiles_and_answers_as_it_does_without(tiny_config: HybridASRConfig) -> None:
    torch.manual_seed(0)
    block = LactBlock(tiny_config).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    hidden, frame_mask = torch.randn(2, 21, tiny_config.hidden_size), torch.ones(2, 21, dtype=torch.bool)
    frame_mask[1, 15:] = False
    expected = block(hidden, frame_mask).detach()  # with gradients: by the closed form
    with torch.no_grad():
        torch.testing.assert_close(block(hidden, frame_mask), expected, rtol=1e-3, atol=1e-4)
        compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(hidden, frame_mask), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("on_gpu")
def test_the_closed_form_stays_where_the_kernels_cannot_go(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs((1, 1, 5, 8, 8))
    assert dispatch.uses_fused(inputs.weights, inputs.keys)
    inputs.keys.requires_grad_()
    assert not dispatch.uses_fused(inputs.weights, inputs.keys)
    with torch.no_grad():
        assert dispatch.uses_fused(inputs.weights, inputs.keys)
    assert not dispatch.uses_fused(Inputs((1, 1, 5, 8, 8), torch.float64).weights, inputs.keys.detach().double())
    wide = Inputs((1, 1, 5, 300, 8))
    assert not dispatch.uses_fused(wide.weights, wide.keys)


def test_a_cpu_computes_by_the_closed_form_and_never_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_try_fused", lambda *_: pytest.fail("tried"))
    inputs = Inputs((2, 2, 20, 12, 16))
    arguments = (inputs.weights, inputs.keys, inputs.values, inputs.learning_rates)
    ours, right = dispatch.update_fast_weights(*arguments), closed_form.update_fast_weights(*arguments)
    assert all(torch.equal(one, other) for one, other in zip(ours, right, strict=True))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(lambda *inputs: 1.5 * closed_form.apply_fast_weights(FastWeights(*inputs[:3]), inputs[3]), "wrong by 50 %"),
     (lambda *inputs: 1 / 0, "division by zero")],
)  # fmt: skip
def test_kernels_that_fail_on_a_device_are_left_alone(
    answer: object, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sums(*inputs: Tensor) -> Tensor:
        step = closed_form.fast_weight_gradient(FastWeights(*inputs[:3]), *inputs[3:])
        return torch.stack([step.w0, step.w1.mT, step.w2])

    kernels = SimpleNamespace(fast_weight_gradient=sums, apply_fast_weights=answer)
    monkeypatch.setitem(sys.modules, "lact_asr_model.ops.fast_weights.fused", kernels)
    monkeypatch.setattr("lact_asr_model.ops.fast_weights.fused", kernels, raising=False)
    monkeypatch.setattr(dispatch, "find_spec", lambda name: object())
    monkeypatch.setattr(dispatch, "_is_on_gpu", lambda x: True)
    dispatch._try_fused.cache_clear()
    inputs = Inputs((1, 1, 5, 8, 8))
    for _ in range(2):
        assert not dispatch.uses_fused(inputs.weights, inputs.keys)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and reason in told
    dispatch._try_fused.cache_clear()


@pytest.mark.slow
def test_the_kernels_compile_for_gpus_and_fit_into_their_shared_memory() -> None:
    """For the largest head. Of the 99 KiB that a block can have on any GPU since Ampere, or the 227 KiB of an H100."""
    pytest.importorskip("triton", reason="Triton, a part of PyTorch for CUDA, is not installed")
    result = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, check=True)
    lines = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
    assert len(lines) == 4
    for capability, num_bytes in lines:
        assert num_bytes <= {80: 99, 90: 227}[capability] * 1024
