"""int8 in ONNX Runtime: the sums are exact on every processor. `make test-no-vnni` runs this on one without VNNI too."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from edge.inference.bundle import DEFAULT, MODELS, load
from edge.inference.measure import some_input

HEADS = {"face": "official", "speech": "logits", "fusion": "official"}
INPUTS = 8


@pytest.mark.parametrize("kind", MODELS)
def test_int8_is_what_its_file_says(kind: str):
    """Against the same file run node by node in float32: a sum cut off at 16 bits moves answers far more than a rounding."""
    bundle = load(DEFAULT)
    info = bundle.models[kind]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    plain = onnxruntime.InferenceSession(str(info.files["int8"]), options, providers=["CPUExecutionProvider"])
    model = bundle.open(kind, "int8")
    differences = []
    rng = np.random.default_rng(0)
    for _ in range(INPUTS):
        one = {name: value + rng.standard_normal(value.shape, np.float32) for name, value in some_input(info.inputs).items()}
        (wanted,) = plain.run([HEADS[kind]], one)
        differences.append(np.abs(model.run(one)[HEADS[kind]] - wanted).mean())
    assert np.mean(differences) < 0.01
