"""The table of variants as text: for a terminal, and as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moodring.export.quantization.data import PERCENTAGE_POINTS
from moodring.export.table import ENGINE_NAMES

COLUMNS = (
    "network", "file", "precision", "engine", "threads", "kB", "accuracy %", "change pp", "same label %", "mean diff.",
    "load ms", "hot ms p50/95/99", "paced ms p50/95/99", "CPU %", "RSS MB", "best",
)  # fmt: skip
PIPED_WIDTH = 240
INT8_SOURCES = {"qdq": "int8 ONNX file", "nncf": "NNCF"}


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return the figures of a row as text, in the order of COLUMNS."""
    times = ["/".join(f"{row[f'{how}_ms'][q]:.2f}" for q in ("p50", "p95", "p99")) for how in ("hot", "paced")]
    return [
        row["network"],
        {"onnx": "ONNX", "ir": "IR", "batch": f"ONNX, batch {row.get('at_once')}"}[row["format"]],
        row["precision"],
        ENGINE_NAMES[row["engine"]],
        str(row["threads"]),
        f"{row['bytes'] / 1000:.0f}",
        f"{PERCENTAGE_POINTS * row['accuracy']:.2f}",
        f"{row['change_pp']:+.2f}",
        f"{PERCENTAGE_POINTS * row['same_label']:.2f}",
        f"{row['mean_abs_difference']:.4f}",
        f"{row['load_ms']:.0f}",
        *times,
        f"{PERCENTAGE_POINTS * row['cpu_share']:.2f}",
        f"{row['rss_mb']:.0f}",
        ", ".join(row["best"]),
    ]


def print_table(document: Mapping[str, Any]) -> None:
    """Print the table and its warnings to standard output."""
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in document["rows"]:
        table.add_row(*cells(row), style="bold" if row["best"] else None)
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(table)
    for warning in document["warnings"]:
        console.print(Text(f"warning: {warning}", "yellow"))


def markdown(document: Mapping[str, Any]) -> str:
    """Return the table, the machine and data behind it, and its warnings, as Markdown."""
    lines = [
        _setup(document),
        "",
        *(f"- {name}: evaluated on {data}." for name, data in document["judged_on"].items()),
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *(
            "| " + " | ".join(f"**{c}**" if c and c == row[-1] else c for c in row) + " |"
            for row in map(cells, document["rows"])
        ),
        "",
    ]
    for network, by_precision in document["engines_agree"].items():
        shares = ", ".join(
            f"{precision} {PERCENTAGE_POINTS * share:.2f} %" for precision, share in sorted(by_precision.items())
        )
        lines.append(f"- {network}: share of inputs with the same label in ONNX Runtime and OpenVINO: {shares}.")
    for network, sources in document.get("openvino_int8", {}).items():
        costs = "; ".join(
            f"{name} {PERCENTAGE_POINTS * sources[source]['same_label']:.2f} % same label as fp32, "
            f"accuracy loss {sources[source]['drop_pp']:+.2f} pp"
            for source, name in INT8_SOURCES.items()
            if source in sources
        )
        chosen = INT8_SOURCES[sources["taken"]]
        lines.append(f"- {network}, int8 in OpenVINO on the validation inputs: {costs}. Source of the IR: {chosen}.")
    lines += [f"- **Slower**: {warning}." for warning in document["warnings"]]
    return "\n".join(lines) + "\n"


def _setup(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    engines = f"ONNX Runtime {machine['onnxruntime']}, OpenVINO {machine['openvino'] or '(not installed)'}"
    setup = f"{machine['processor']}, {machine['cores']} cores, {engines}, Python {machine['python']}, {machine['date']}"
    note = ""
    if machine["load_average"] > machine["cores"]:
        note = (
            f" **Other processes used the machine (load average {machine['load_average']})**: compare times only within this "
            "table."
        )
    return f"Measured on {setup}, bundle `{document['bundle']}`.{note}"
