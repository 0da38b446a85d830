"""What a GPU needs at the least for a layer, a pass and an adaptation: computed from counts, not measured.

    python benchmarks/gpu_floors.py [--write] [--bfloat16_tflops T] [--float32_tflops T] [--gigabytes_per_second G]

Shapes alone are computed (PyTorch's `FakeTensorMode`), and every operator is counted: two operations for a
multiplication with its addition, the bytes that it reads and writes, and one kernel. "At least" is the longer of two
times, of all products at the peak rate and of reading all weights once; one by one, each operator takes the longer of
its own two. The defaults are the figures that NVIDIA gives for an H100 SXM, without sparsity and, in float32, without
TF32; that launching a kernel costs 4 µs is an assumption.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import measuring
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from lact_asr_model.acoustic_models.hybrid import HybridAcousticModel
from lact_asr_model.acoustic_models.loading import load
from lact_asr_model.adaptation.options import AdaptationOptions
from lact_asr_model.adaptation.procedure import adapt
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.evaluation.summary import markdown_table
from lact_asr_model.hybrid_network import HybridNetwork, LactBlock

PASS_SECONDS = 10
LAYER_SECONDS, QUICK_LAYER_SECONDS = (5, 15, 60, 300), (1,)
FULL_SIZE_OPTIONS = AdaptationOptions(loss_type="entropy_mcc", speed="fast", unadapted_share=0.5)
aten = torch.ops.aten
_NO_KERNEL = {aten._unsafe_view, aten.lift_fresh}
_ATTENTION: dict[Any, Callable[..., int]] = {  # a CPU's own operators, which PyTorch's counter does not know
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(
        q.shape, k.shape, v.shape
    ),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(
        grad.shape, q.shape, k.shape, v.shape
    ),
}


class Counts(TorchDispatchMode):
    """A context that counts what is computed in it: operations and float32 bytes of each kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default:
            return True  # whether there are frames
        result = func(*args, **kwargs)
        packet = func.overloadpacket
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if inputs and func.namespace == "aten" and not func.is_view and packet not in _NO_KERNEL:
            outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            unique = {id(tensor): tensor for tensor in (*inputs, *outputs)}
            num_bytes = sum(map(_bytes, unique.values()))
            if packet in _ATTENTION:
                operations = _ATTENTION[packet](*args, **kwargs)
            else:
                operations = flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0
            self.kernels.append((operations, num_bytes))
        return result


@dataclass(frozen=True)
class Device:
    """What a GPU can do in a second, in one arithmetic."""

    operations: float
    float32_bytes: float  # in bfloat16, twice as many

    def seconds(self, operations: float, num_bytes: float) -> float:
        return max(operations / self.operations, num_bytes / self.float32_bytes)


def main(argv: Sequence[str] | None = None) -> None:
    parser = measuring.make_parser(__doc__)
    rates = {"bfloat16_tflops": 989.0, "float32_tflops": 67.0, "gigabytes_per_second": 3350.0, "launch_us": 4.0}
    for name, rate in rates.items():
        parser.add_argument(f"--{name}", type=float, default=rate, metavar="N", help=f"default: {rate:g}")
    measuring.run(parser, _compute, argv)


def _compute(arguments: argparse.Namespace) -> str:
    bytes_per_second = arguments.gigabytes_per_second * 1e9
    devices = (
        Device(arguments.bfloat16_tflops * 1e12, 2 * bytes_per_second),
        Device(arguments.float32_tflops * 1e12, bytes_per_second),
    )
    rows = [
        ["computed, not measured", "audio, s", "GFLOP", "kernels", "their launches, ms"]
        + [f"{name}: {kind}, ms" for name in ("bfloat16", "float32") for kind in ("at least", "one by one")]
    ]
    bundled, full_size = cast("HybridAcousticModel", load()), HybridASRConfig()
    models = {
        "bundled": (bundled.model.config, bundled.default_options),
        "full size": (full_size, FULL_SIZE_OPTIONS),
    }
    for name, (config, options) in models.items():
        with FakeTensorMode():
            model = HybridAcousticModel(HybridNetwork(config).eval().requires_grad_(False), bundled.processor)
            inputs = {"input_values": torch.empty(1, PASS_SECONDS * config.sampling_rate)}
            calls: dict[str, Callable[[], object]] = {"a plain pass": partial(model.recognize, inputs)}
            for steps in (1, 2):
                adapting = partial(adapt, model, inputs, replace(options, steps=steps))
                calls[f"adapted, {steps} step{'s' if steps > 1 else ''}"] = adapting
            for what, call in calls.items():
                row = _row(call, model.model, arguments.launch_us, devices)
                rows.append([f"{name}: {what}", str(PASS_SECONDS), *row])
    with FakeTensorMode():
        block = cast("LactBlock", HybridNetwork(full_size).eval().requires_grad_(False).layers[0])
        for seconds in QUICK_LAYER_SECONDS if arguments.quick else LAYER_SECONDS:
            hidden = torch.empty(1, full_size.num_frames(seconds * full_size.sampling_rate), full_size.hidden_size)
            frame_mask = torch.ones(hidden.shape[:2], dtype=torch.bool)
            for what, layer in (("layer memory", block.memory), ("windowed attention", block.attention)):
                row = _row(partial(layer, hidden, frame_mask), layer, arguments.launch_us, devices)
                rows.append([f"a layer of the full size: {what}", str(seconds), *row])
    return (
        f"{markdown_table(rows)}\n\nComputed, not measured, for a GPU of {arguments.bfloat16_tflops:g} TFLOP/s in "
        f"bfloat16 and {arguments.float32_tflops:g} in float32, {arguments.gigabytes_per_second:g} GB/s, and "
        f"{arguments.launch_us:g} µs for a launch."
    )


def _row(call: Callable[[], object], module: nn.Module, launch_us: float, devices: Sequence[Device]) -> list[str]:
    with Counts() as counts:
        call()
    operations = sum(number for number, _ in counts.kernels)
    num_bytes = sum(map(_bytes, module.parameters()))
    cells = [f"{operations / 1e9:.0f}", str(len(counts.kernels)), f"{len(counts.kernels) * launch_us / 1e3:.2f}"]
    for device in devices:
        one_by_one = sum(device.seconds(*kernel) for kernel in counts.kernels)
        cells += [f"{1e3 * seconds:.2f}" for seconds in (device.seconds(operations, num_bytes), one_by_one)]
    return cells


def _bytes(tensor: Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


if __name__ == "__main__":
    main()
