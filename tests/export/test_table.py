"""The table of variants: warnings, marks, agreement of engines, and the generated part of docs/export.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.generate import export_page
from moodring.errors import ExportError
from moodring.export import table
from moodring.export.held_out import HeldOut
from moodring.export.table import Predictions
from moodring.export.table_text import COLUMNS, cells, markdown

ROOT = Path(__file__).resolve().parents[2]


def row(precision: str, hot: float, paced: float, **other: Any) -> dict[str, Any]:
    return {
        "network": "face", "format": "onnx", "precision": precision, "engine": "onnx", "threads": 1, "bytes": 1000,
        "accuracy": 0.5, "same_label": 1.0, "mean_abs_difference": 0.0, "load_ms": 1.0, "rss_mb": 60.0, "cpu_share": 0.01,
        "samples": 2, "hot_ms": {"p50": hot, "p95": hot, "p99": hot}, "paced_ms": {"p50": paced, "p95": paced, "p99": paced},
        **other,
    }  # fmt: skip


def test_warnings_name_slower_int8_variants():
    rows = [row("fp32", 1.0, 2.0), row("int8", 0.5, 3.0), row("fp32", 1.0, 2.0, threads=2), row("int8", 0.5, 1.0, threads=2)]
    (warning,) = table.warnings(rows)
    assert warning == "face: int8 (onnx, ONNX Runtime, threads: 1) is slower than fp32, paced: 1.50x its paced time"


def test_mark_best_prefers_faster_variant_on_ties():
    rows = [row("fp32", 1.0, 2.0, accuracy=0.6), row("int8", 1.0, 1.0, bytes=400, accuracy=0.6), row("fp16", 1.0, 3.0)]
    table.mark_best(rows)
    assert [variant["best"] for variant in rows] == [[], ["fastest", "smallest", "most accurate"], []]


def test_mark_best_ignores_dynamic_batch_files():
    rows = [row("fp32", 1.0, 2.0), row("fp32", 0.1, 0.2, format="batch", at_once=8, bytes=900, accuracy=0.9)]
    table.add_accuracy_change(rows)
    table.mark_best(rows)
    assert [bool(variant["best"]) for variant in rows] == [True, False]
    assert cells(rows[1])[1] == "ONNX, batch 8"


def test_engine_agreement_takes_smaller_share_of_onnx_and_ir():
    same, different = (
        Predictions(np.eye(2, dtype=np.float32)[labels], np.zeros((4, 0))) for labels in ([0, 1, 1, 0], [0, 1, 0, 0])
    )
    predictions = {("face", "onnx", "int8", "onnx"): same, ("face", "onnx", "int8", "openvino"): same,
                   ("face", "ir", "int8", "openvino"): different, ("face", "ir", "fp16", "openvino"): different}  # fmt: skip
    assert table.engine_agreement(predictions) == {"face": {"int8": 0.75}}
    onnx_runtime_alone = {key: outputs for key, outputs in predictions.items() if "openvino" not in key}
    assert table.engine_agreement(onnx_runtime_alone) == {}


def test_markdown_lists_cost_of_both_int8_sources():
    cost = {"drop_pp": 0.25, "same_label": 0.99, "mean_abs_difference": 0.001}
    machine = {"onnxruntime": "1", "openvino": "2", "processor": "p", "python": "3", "date": "d"}
    text = markdown(
        {
            "machine": {**machine, "cores": 2, "load_average": 0},
            "bundle": "b", "judged_on": {}, "rows": [], "engines_agree": {}, "warnings": [],
            "openvino_int8": {"face": {"taken": "qdq", "qdq": cost, "nncf": {**cost, "same_label": 0.94}}},
        }
    )  # fmt: skip
    assert "int8 ONNX file 99.00 % same label as fp32, accuracy loss +0.25 pp; NNCF 94.00 %" in text
    assert "Source of the IR: int8 ONNX file." in text


def test_score_averages_inputs_of_a_group():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], np.float32)
    held_out_set = HeldOut("toy", "logits", [], np.array([0, 0, 1]), np.array([0, 1]))
    predictions = Predictions(probabilities, np.zeros((3, 0), np.float32))
    other = Predictions(probabilities[:, ::-1].copy(), predictions.embeddings)
    assert table.score(predictions, predictions, held_out_set) == {
        "accuracy": 1.0,
        "same_label": 1.0,
        "mean_abs_difference": 0.0,
    }
    assert table.score(other, predictions, held_out_set)["same_label"] == 0.0


def test_replace_section_keeps_the_rest_of_the_page():
    text = "before\n<!-- forms: begin -->\nold\n<!-- forms: end -->\nafter\n"
    done = export_page.replace_section(text, "forms", "new\n")
    assert done == "before\n<!-- forms: begin -->\nnew\n<!-- forms: end -->\nafter\n"
    assert export_page.replace_section(done, "forms", "new") == done
    with pytest.raises(ExportError, match="each once"):
        export_page.replace_section("nothing", "forms", "new")


def test_export_page_matches_committed_figures():
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    assert (
        export_page.arm_table(json.loads((ROOT / "docs" / "benchmarks" / "aarch64.json").read_text(encoding="utf-8"))) in text
    )
    figures = ROOT / "docs" / "benchmarks" / "forms.json"
    if not figures.exists():
        assert text.count("No figures are committed") == 2
        return
    document = json.loads(figures.read_text(encoding="utf-8"))
    assert markdown(document).strip() in text
    assert export_page.int8_table(document) in text
    assert all(len(cells(variant)) == len(COLUMNS) for variant in document["rows"])
    assert len(re.findall(r"^\| \*{0,2}(?:face|speech|fusion)", markdown(document), re.MULTILINE)) == len(document["rows"])
