"""Compiled recognition: the plain pass as a few graphs, each for one length of audio."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.errors import UserError
from lact_asr_model.hybrid_network import HybridNetwork

_MOST_GRAPHS = 64  # PyTorch would stop at 8


class CompiledRecognition:
    """Takes the place of `HybridAcousticModel.recognize`.

    Batches are padded to the length of the next graph (`graph_seconds`) and to `batch_size` rows. A graph is compiled
    when it is first needed, which takes its time; a GPU then runs it as a CUDA graph, without waiting for Python.

    Args:
        network: in evaluation mode, on the device where it stays.
        batch_size: most recordings at once.
        backend: of `torch.compile`.

    Raises:
        UserError: when it is called, where the backend cannot compile.
    """

    def __init__(self, network: HybridNetwork, batch_size: int, backend: Any = "inductor") -> None:
        self._config: HybridASRConfig = network.config
        self._batch_size = batch_size
        as_cuda_graphs = backend == "inductor" and network.device.type == "cuda"
        mode = "reduce-overhead" if as_cuda_graphs else None
        self._run = torch.compile(network.recognize, backend=backend, mode=mode, dynamic=False, fullgraph=True)

    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As `AcousticModel.recognize`."""
        samples = inputs["input_values"]
        mask = inputs.get("attention_mask", torch.ones_like(samples, dtype=torch.int32))
        rows, length = samples.shape
        rate = self._config.sampling_rate
        padding = (0, round(graph_seconds(length / rate) * rate) - length, 0, max(self._batch_size - rows, 0))
        torch.compiler.cudagraph_mark_step_begin()
        try:
            with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=_MOST_GRAPHS):
                logits, frame_mask = self._run(F.pad(samples, padding), F.pad(mask, padding))
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(getattr(error, "inner_exception", error)).strip().splitlines()[0]
            raise UserError(f"compile: PyTorch cannot compile here ({reason}); recognise without it") from None
        num_frames = self._config.num_frames(length)
        return logits[:rows, :num_frames].clone(), frame_mask[:rows, :num_frames].clone()  # a CUDA graph reuses its own


def graph_seconds(seconds: float) -> float:
    """The length of the graph for a recording: 1, 1.5, 2, 3, 4, 6, 8, 12 seconds and so on, so that few suffice."""
    power = 2.0 ** math.ceil(math.log2(max(seconds, 1.0)))
    return 0.75 * power if max(seconds, 1.0) <= 0.75 * power else power
