"""A CTC model as one ONNX graph for recordings of every length, checked against PyTorch before anybody uses it."""

import importlib.util
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lact_asr_model.acoustic_models.acoustic_model import AcousticModel
from lact_asr_model.acoustic_models.functional import frozen_copy
from lact_asr_model.acoustic_models.onnx_model import (
    EXTRA,
    GRAPH_NAME,
    INPUT_NAME,
    OUTPUT_NAME,
    ZERO_MEAN_UNIT_VARIANCE,
    OnnxDescription,
    load_onnx,
)
from lact_asr_model.decoding.tuned_weights import FILE_NAME as TUNED_WEIGHTS_NAME
from lact_asr_model.errors import UserError
from lact_asr_model.lact_layer import FastWeightMemory

LARGEST_DIFFERENCE = 0.02  # of a log-probability: rounding, which grows with the length
_CHECKED_SECONDS = (0.5, 1.3, 4.9, 29.3)  # beside the shortest recording, and up to the usual longest
_TRACED_SECONDS = 3.0
_EXTERNAL_DATA_BYTES = 1_800_000_000  # a graph with its weights inside ends at 2 GB
_EPSILON = 1e-7  # of transformers' feature extractor


class _LogProbabilities(nn.Module):
    """What is exported: the plain path, from normalised samples to log-probabilities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = frozen_copy(model).float()
        for module in self.model.modules():
            if isinstance(module, FastWeightMemory):
                module.chunk_size = None  # a graph has no loop over pieces, whose number depends on the length

    def forward(self, input_values: Tensor) -> Tensor:
        """float32 [1, samples] to [1, frames, vocabulary]."""
        return self.model(input_values).logits.log_softmax(-1)


def export_onnx(model: AcousticModel, folder: str | Path, *, int8: bool = False) -> OnnxDescription:
    """Write a folder that `load_onnx` reads: the graph, what a program must know beside it, tuned weights of decoding.

    The graph is compared with the model at five lengths, and is not left behind if it differs.

    Args:
        model: one of this package, or any that takes samples; it stays as it is.
        folder: does not exist, or is empty.
        int8: store the matrices as 8-bit integers, and compute with these.

    Raises:
        UserError: the extra is not installed, the folder has content, or the model cannot be exported.
    """
    folder = Path(folder)
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        raise UserError(f"export: needs {EXTRA}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists; name another folder")
    feature_extractor = getattr(model, "feature_extractor", None)
    if getattr(model.model, "main_input_name", None) != INPUT_NAME:
        raise UserError(f"{_name(model)}: does not take samples, so it cannot be exported; choose another")
    description = OnnxDescription(
        source=model.name or "the bundled model",
        lact_asr_version=version("lact-asr"),
        opset=0,
        weights="float32",
        normalization=ZERO_MEAN_UNIT_VARIANCE if getattr(feature_extractor, "do_normalize", False) else None,
        normalization_epsilon=_EPSILON,
        sampling_rate_hz=model.sampling_rate,
        shortest_samples=model.shortest_samples,
        frame_seconds=model.frame_seconds,
        vocabulary=model.vocabulary,
        blank_id=model.blank_id,
        largest_differences={},
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            partial = Path(scratch) / "partial"
            partial.mkdir()
            description = replace(description, opset=_write_graph(model, partial / GRAPH_NAME))
            description.write(partial)
            description = replace(description, largest_differences=_compare(model, partial))
            description.write(partial)
            tuned_weights = model.folder / TUNED_WEIGHTS_NAME if model.folder else None
            if tuned_weights and tuned_weights.is_file():
                shutil.copy(tuned_weights, partial)
            if int8:
                whole, partial = partial, Path(scratch) / "int8"
                description = quantize(whole, partial)
            partial.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another place") from None
    return description


def quantize(source: Path, target: Path) -> OnnxDescription:
    """Write an exported folder once more, with its matrices as 8-bit integers, each column with a scale of its own.

    What they are multiplied with is rounded to 8 bits too, by its range at that moment. The fast weights stay as they
    are.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source / GRAPH_NAME, load_external_data=False).graph
    of_memory = {weight.name for weight in graph.initializer if len(weight.dims) > 2}  # one matrix for each head
    target.mkdir()
    with _quiet():
        quantize_dynamic(
            source / GRAPH_NAME,
            target / GRAPH_NAME,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=[node.name for node in graph.node if of_memory.intersection(node.input)],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    if (source / TUNED_WEIGHTS_NAME).is_file():
        shutil.copy(source / TUNED_WEIGHTS_NAME, target)
    description = replace(OnnxDescription.read(source), weights="int8")
    description.write(target)
    return description


def _write_graph(model: AcousticModel, path: Path) -> int:
    """Write the graph, and return its opset."""
    plain = _LogProbabilities(model.model).cpu().eval()
    samples = torch.zeros(1, round(_TRACED_SECONDS * model.sampling_rate))
    lengths = torch.export.Dim("samples", min=model.shortest_samples)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                plain,
                (samples,),
                dynamo=True,
                dynamic_shapes={"input_values": {1: lengths}},
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise UserError(f"{_name(model)}: PyTorch cannot export it ({reason}); use runtime torch") from None
    num_bytes = sum(parameter.numel() * 4 for parameter in plain.parameters())
    program.save(path, external_data=num_bytes > _EXTERNAL_DATA_BYTES)
    return program.model.opset_imports[""]


def _compare(model: AcousticModel, folder: Path) -> dict[str, float]:
    """The largest difference from PyTorch for each of five lengths in samples. Raises UserError if one is too large."""
    exported = load_onnx(folder, num_threads=torch.get_num_threads())
    generator = np.random.default_rng(0)
    differences = {}
    for num_samples in (model.shortest_samples, *(round(s * model.sampling_rate) for s in _CHECKED_SECONDS)):
        recording = [generator.normal(scale=0.1, size=num_samples).astype(np.float32)]
        (expected,) = model.log_probs(*model.recognize(model.prepare(recording)), on_cpu=True)
        (found,) = exported.log_probs(*exported.recognize(exported.prepare(recording)))
        is_same_length = found.shape == tuple(expected.shape)
        difference = float(np.abs(found - expected.numpy()).max()) if is_same_length else float("inf")
        if not difference <= LARGEST_DIFFERENCE:
            raise UserError(
                f"{_name(model)}: its graph is not the model (a recording of {num_samples} samples differs by "
                f"{difference:.2g}); use runtime torch"
            )
        differences[str(num_samples)] = float(f"{difference:.2g}")
    return differences


def _name(model: AcousticModel) -> str:
    return f"checkpoint {model.name}" if model.name else "the bundled model"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters log about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
