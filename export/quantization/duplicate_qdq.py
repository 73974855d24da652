"""Duplicated quantise-dequantise pairs before sums, so that every engine rounds the operands of a sum once.

If a convolution's output is quantised, added to something and quantised again, OpenVINO's CPU plugin removes the first
rounding (`drop rounding one special residual pattern` in its sources). ONNX Runtime keeps it. After a few residual blocks every
second value differs by one step, and 1 label in 50. OpenVINO removes only the first operation after the convolution, so it
keeps a second quantisation to the same scale. ONNX Runtime merges the two.
"""

from __future__ import annotations

import onnx
from onnx import helper

from moodring.export.onnx_model import serialize


def duplicate_qdq(int8: bytes) -> bytes:
    """Return the quantised model with a second, identical quantisation of every convolution output that enters a sum."""
    model = onnx.load_from_string(int8)
    producers = {output: node for node in model.graph.node for output in node.output}
    added = {name for node in model.graph.node if node.op_type == "Add" for name in node.input}

    def dequantizes_convolution(node: onnx.NodeProto) -> bool:
        quantize_node = producers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        layer = producers.get(quantize_node.input[0]) if quantize_node is not None else None
        return layer is not None and layer.op_type == "Conv"

    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "DequantizeLinear" and node.output[0] in added and dequantizes_convolution(node):
            name, scale_and_zero = node.output[0], node.input[1:]
            node.output[0] = f"{name}_once"
            duplicate = f"{name}_again"
            nodes.append(helper.make_node("QuantizeLinear", [node.output[0], *scale_and_zero], [duplicate], name=duplicate))
            nodes.append(helper.make_node("DequantizeLinear", [duplicate, *scale_and_zero], [name], name=f"{name}_twice"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return serialize(model)
