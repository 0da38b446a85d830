"""Moonshine's encoder out of a wheel: from the quantised ONNX file that it carries to a folder that transformers reads.

    python recipes/small/moonshine_from_onnx.py encoder_model.ort moonshine-base

Whoever reaches the Hugging Face hub needs none of this: `UsefulSensors/moonshine-tiny` and `-base` are the same models
in full precision. The matrices come out as the 8-bit numbers say, everything rounded to half precision; the folder has
no decoder. Needs `onnx` and `onnxruntime`.
"""

import argparse
import re
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from transformers import MoonshineConfig, MoonshineModel

_KEPT_AS_THEY_ARE = re.compile(r"layers\.|layer_norm\.|conv\d\.(weight|bias)$")
_MATRIX = re.compile(r"/(layers\.\d+\.?/(?:self_attn|mlp)/\w+)/MatMul(?:_quant)?")
_CONVOLUTION = re.compile(r"/(conv\d)/Conv")
PARTIAL_ROTARY_FACTORS = {288: 0.9, 416: 0.62}  # by width: of the tiny and the base model


def read_encoder(path: Path) -> dict[str, np.ndarray]:
    """The encoder's weights by their names in `transformers`, float32."""
    with tempfile.TemporaryDirectory() as folder:
        as_onnx = Path(folder) / "encoder.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(as_onnx)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.save_model_format", "ONNX")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(as_onnx).graph

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {name: value for name, value in constants.items() if _KEPT_AS_THEY_ARE.match(name)}
    for node in graph.node:
        matrix, convolution = _MATRIX.fullmatch(node.name), _CONVOLUTION.fullmatch(node.name)
        if convolution:
            weights[convolution[1] + ".weight"] = _dequantise(node, constants)
        elif matrix:
            name = matrix[1].replace("/", ".").replace(".dense", ".o_proj")
            weights[name + ".weight"] = _dequantise(node, constants).T
        elif node.name in ("/groupnorm/Mul", "/groupnorm/Add"):
            weights["groupnorm.weight" if node.op_type == "Mul" else "groupnorm.bias"] = constants[node.input[1]][:, 0]
    return weights


def _dequantise(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> np.ndarray:
    """The weight of a node: as it is, behind its own scale and offset, or inside an operation on 8-bit numbers."""
    weight = node.input[1]
    if weight.endswith("_add_tensor"):
        parts = (weight.replace("_add_tensor", suffix) for suffix in ("_quantized", "_scale", "_zero_point"))
        matrix, scale, offset = (constants[name].astype(np.float32) for name in parts)
        return matrix * scale + offset
    if node.op_type in ("Conv", "FusedConv"):
        return constants[weight]
    names = node.input[1:4] if node.op_type == "DynamicQuantizeMatMul" else node.input[1:6:2]
    matrix, scale, zero_point = (constants[name].astype(np.float32) for name in names)
    return (matrix - zero_point) * scale


def main() -> None:
    """Command line: ENCODER.ort OUTPUT_DIR."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("encoder", type=Path, help="encoder_model.ort or .onnx")
    parser.add_argument("output_dir", type=Path)
    arguments = parser.parse_args()
    weights = read_encoder(arguments.encoder)
    num_layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    hidden_size = len(weights["layer_norm.weight"])
    if hidden_size not in PARTIAL_ROTARY_FACTORS:
        parser.error(f"{arguments.encoder}: has a width of {hidden_size}; give the encoder of Moonshine tiny or base")
    config = MoonshineConfig(
        hidden_size=hidden_size,
        intermediate_size=len(weights["layers.0.mlp.fc1.bias"]),
        encoder_num_hidden_layers=num_layers,
        decoder_num_hidden_layers=0,
        vocab_size=4,
        pad_token_id=0,
        partial_rotary_factor=PARTIAL_ROTARY_FACTORS[hidden_size],
    )
    model = MoonshineModel(config)
    model.encoder.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    model.half().save_pretrained(arguments.output_dir)


if __name__ == "__main__":
    main()
