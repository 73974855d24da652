"""A sum's addends are rounded twice, so that every engine rounds them once.

Where a convolution is quantised, then added to something and quantised again, OpenVINO's CPU plugin leaves out the first
rounding (`drop rounding one special residual pattern` in its sources): it adds what ONNX Runtime has rounded before. After a
few residual blocks every second value differs by a step, and one label in fifty. OpenVINO leaves out only the very first
operation after the convolution, so a second quantisation to the same scale is kept; ONNX Runtime joins the two into one.
"""

from __future__ import annotations

import onnx
from onnx import helper


def duplicate_qdq(int8: bytes) -> bytes:
    """Return a quantised network with each quantised convolution that goes into a sum quantised again, to the same values."""
    model = onnx.load_from_string(int8)
    producers = {output: node for node in model.graph.node for output in node.output}
    added = {name for node in model.graph.node if node.op_type == "Add" for name in node.input}

    def of_convolution(node: onnx.NodeProto) -> bool:
        """Say whether the node dequantises what a convolution gave."""
        quantize_node = producers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        layer = producers.get(quantize_node.input[0]) if quantize_node is not None else None
        return layer is not None and layer.op_type == "Conv"

    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "DequantizeLinear" and node.output[0] in added and of_convolution(node):
            name, scale_and_zero = node.output[0], node.input[1:]
            node.output[0] = f"{name}_once"
            duplicate = f"{name}_again"
            nodes.append(helper.make_node("QuantizeLinear", [node.output[0], *scale_and_zero], [duplicate], name=duplicate))
            nodes.append(helper.make_node("DequantizeLinear", [duplicate, *scale_and_zero], [name], name=f"{name}_twice"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString(deterministic=True))
