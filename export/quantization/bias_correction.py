"""Bias correction (Nagel et al. 2019): shift each int8 layer's bias by the error in the mean of its output.

Layers are corrected in the order of computation, so that the inputs of each are already corrected.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from moodring.export.onnx_model import open_session, serialize
from moodring.export.quantization.data import Inputs

F64 = NDArray[np.float64]

INT32 = np.iinfo(np.int32)


def correct_biases(float_model: bytes, int8: bytes, inputs: Inputs) -> bytes:
    """Return the quantised model with biases that restore, over `inputs`, each layer's output mean in `float_model`."""
    model = onnx.load_from_string(int8)
    weights = {part.name: part for part in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    layers = [node for node in onnx.load_from_string(float_model).graph.node if node.op_type in ("Conv", "Gemm")]
    expected = channel_means(float_model, [node.output[0] for node in layers], inputs)
    quantized_nodes = {node.name: node for node in model.graph.node}
    for layer, target_mean in zip(layers, expected, strict=True):
        node = quantized_nodes[layer.name]
        dequantize_node = producers.get(node.input[2]) if len(node.input) > 2 else None
        if dequantize_node is None or dequantize_node.op_type != "DequantizeLinear":  # no bias, or a float32 layer
            continue
        (observed_mean,) = channel_means(model.SerializeToString(), [node.output[0]], inputs)
        bias, scale = (numpy_helper.to_array(weights[name]) for name in dequantize_node.input[:2])
        adjusted = bias.astype(np.float64) + np.round((target_mean - observed_mean) / scale)
        weights[dequantize_node.input[0]].CopyFrom(
            numpy_helper.from_array(np.clip(adjusted, INT32.min, INT32.max).astype(np.int32), dequantize_node.input[0])
        )
    return serialize(model)


def channel_means(data: bytes, tensors: list[str], inputs: Inputs) -> list[F64]:
    """Return the mean of each tensor [1, C, ...] over the inputs and all axes but the channels, float64 [C]."""
    model = onnx.load_from_string(data)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    session = open_session(model.SerializeToString())
    sums: list[F64] = [np.zeros(0)] * len(tensors)
    for feed in inputs:
        for index, value in enumerate(session.run(tensors, feed)):
            mean = value.reshape(*value.shape[:2], -1).mean(axis=(0, 2), dtype=np.float64)
            sums[index] = mean if not sums[index].size else sums[index] + mean
    return [total / len(inputs) for total in sums]
