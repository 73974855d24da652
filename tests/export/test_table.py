"""The table of forms: what it warns of, what it marks, and how it gets onto the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.generate import export_page as page
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


def test_it_warns_where_int8_is_slower_and_says_how():
    rows = [row("fp32", 1.0, 2.0), row("int8", 0.5, 3.0), row("fp32", 1.0, 2.0, threads=2), row("int8", 0.5, 1.0, threads=2)]
    (warning,) = table.warnings(rows)
    assert "with 1 thread" not in warning
    assert "1 thread(s)) is slower here than fp32, paced: 1.50 times its time paced" in warning


def test_the_best_of_each_use_is_marked_and_ties_go_to_the_faster():
    rows = [row("fp32", 1.0, 2.0, accuracy=0.6), row("int8", 1.0, 1.0, bytes=400, accuracy=0.6), row("fp16", 1.0, 3.0)]
    table._mark_best(rows)
    assert [one["best"] for one in rows] == [[], ["fastest", "smallest", "most accurate"], []]


def test_files_for_several_inputs_are_never_the_best_since_no_run_uses_them():
    rows = [row("fp32", 1.0, 2.0), row("fp32", 0.1, 0.2, format="batch", at_once=8, bytes=900, accuracy=0.9)]
    table._add_accuracy_change(rows)
    table._mark_best(rows)
    assert [bool(one["best"]) for one in rows] == [True, False]
    assert cells(rows[1])[1] == "ONNX, 8 at once"


def test_engines_are_compared_in_what_each_would_run():
    one, other = (Predictions(np.eye(2, dtype=np.float32)[places], np.zeros((4, 0))) for places in ([0, 1, 1, 0], [0, 1, 0, 0]))
    predictions = {("face", "onnx", "int8", "onnx"): one, ("face", "onnx", "int8", "openvino"): one,
            ("face", "ir", "int8", "openvino"): other, ("face", "ir", "fp16", "openvino"): other}  # fmt: skip
    assert table._engines_agree(predictions) == {"face": {"int8": 0.75}}
    assert table._engines_agree({key: answers for key, answers in predictions.items() if "openvino" not in key}) == {}


def test_what_both_ways_to_int8_cost_in_openvino_is_said():
    cost = {"drop_pp": 0.25, "same_label": 0.99, "mean_abs_difference": 0.001}
    machine = {"onnxruntime": "1", "openvino": "2", "processor": "p", "python": "3", "date": "d"}
    text = markdown(
        {
            "machine": {**machine, "cores": 2, "load_average": 0},
            "bundle": "b", "judged_on": {}, "rows": [], "engines_agree": {}, "warnings": [],
            "openvino_int8": {"face": {"taken": "qdq", "qdq": cost, "nncf": {**cost, "same_label": 0.94}}},
        }
    )  # fmt: skip
    assert "the ONNX file 99.00 % of float32's labels for +0.25 points lost, NNCF 94.00 %" in text
    assert "the IR is of the ONNX file." in text


def test_an_answer_is_the_mean_over_its_inputs():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], np.float32)
    on = HeldOut("toy", "logits", [], np.array([0, 0, 1]), np.array([0, 1]))
    predictions = Predictions(probabilities, np.zeros((3, 0), np.float32))
    other = Predictions(probabilities[:, ::-1].copy(), predictions.embeddings)
    assert table._score(predictions, predictions, on) == {"accuracy": 1.0, "same_label": 1.0, "mean_abs_difference": 0.0}
    assert table._score(other, predictions, on)["same_label"] == 0.0


def test_the_page_keeps_its_words():
    text = "before\n<!-- forms: begin -->\nold\n<!-- forms: end -->\nafter\n"
    done = page.replace_section(text, "forms", "new\n")
    assert done == "before\n<!-- forms: begin -->\nnew\n<!-- forms: end -->\nafter\n"
    assert page.replace_section(done, "forms", "new") == done
    with pytest.raises(ExportError, match="each once"):
        page.replace_section("nothing", "forms", "new")


def test_the_page_in_docs_says_what_its_figures_say():
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    assert page.arm_table(json.loads((ROOT / "docs" / "benchmarks" / "aarch64.json").read_text(encoding="utf-8"))) in text
    figures = ROOT / "docs" / "benchmarks" / "forms.json"
    if not figures.exists():
        assert text.count("No figures are committed") == 2
        return
    document = json.loads(figures.read_text(encoding="utf-8"))
    assert markdown(document).strip() in text
    assert page.int8_table(document) in text
    assert all(len(cells(one)) == len(COLUMNS) for one in document["rows"])
    assert len(re.findall(r"^\| \*{0,2}(?:face|speech|fusion)", markdown(document), re.MULTILINE)) == len(document["rows"])
