"""int8 in ONNX Runtime: sums are exact on every processor. `make test-no-vnni` also runs this on a processor without VNNI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from moodring.inference.bundle import DEFAULT, MODELS, load
from moodring.inference.measure import random_inputs

ROOT = Path(__file__).resolve().parents[2]
HEADS = {"face": "official", "speech": "logits", "fusion": "official"}
INPUTS = 8


@pytest.mark.parametrize("kind", MODELS)
def test_int8_outputs_equal_those_of_the_unoptimised_graph(kind: str):
    """Compare with the same file run node by node in float32. A sum that saturates at 16 bits differs more than by rounding."""
    bundle = load(DEFAULT)
    info = bundle.models[kind]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    reference = onnxruntime.InferenceSession(str(info.files["int8"]), options, providers=["CPUExecutionProvider"])
    model = bundle.open(kind, "int8")
    differences = []
    rng = np.random.default_rng(0)
    for _ in range(INPUTS):
        inputs = {
            name: value + rng.standard_normal(value.shape, np.float32) for name, value in random_inputs(info.inputs).items()
        }
        (expected,) = reference.run([HEADS[kind]], inputs)
        differences.append(np.abs(model.run(inputs)[HEADS[kind]] - expected).mean())
    assert np.mean(differences) < 0.01


@pytest.mark.parametrize("folder", [DEFAULT, *sorted((ROOT / "train" / "folds").glob("fold*"))], ids=lambda folder: folder.name)
def test_all_convolutions_of_the_speech_network_run_in_int8(folder: Path, tmp_path: Path):
    """A layer whose scales do not match stays in float32 and costs as much as five int8 layers."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    file = load(folder, ("speech",)).models["speech"].files["int8"]
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node]
    assert "Conv" not in operators
    assert operators.count("QLinearConv") == 18
