"""int8 in ONNX Runtime: the sums are exact on every processor. `make test-no-vnni` runs this on one without VNNI too."""

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
        one = {name: value + rng.standard_normal(value.shape, np.float32) for name, value in random_inputs(info.inputs).items()}
        (wanted,) = plain.run([HEADS[kind]], one)
        differences.append(np.abs(model.run(one)[HEADS[kind]] - wanted).mean())
    assert np.mean(differences) < 0.01


@pytest.mark.parametrize("folder", [DEFAULT, *sorted((ROOT / "train" / "folds").glob("fold*"))], ids=lambda folder: folder.name)
def test_the_voice_is_convolved_in_int8_throughout(folder: Path, tmp_path: Path):
    """Scales that do not fit together leave a layer in float32, at the cost of five."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_run.onnx")
    options.log_severity_level = 3
    file = load(folder, ("speech",)).models["speech"].files["int8"]
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(str(tmp_path / "as_run.onnx")).graph.node]
    assert "Conv" not in operators
    assert operators.count("QLinearConv") == 18
