"""The table of forms as text: for a terminal, and as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moodring.export.table import ENGINE_NAMES, PERCENTAGE_POINTS

COLUMNS = (
    "network", "file", "precision", "engine", "threads", "kB", "accuracy %", "change pp", "same label %", "mean diff.",
    "load ms", "hot ms p50/95/99", "paced ms p50/95/99", "of a core %", "RSS MB", "best",
)  # fmt: skip
PIPED_WIDTH = 240
INT8_SOURCES = {"qdq": "the ONNX file", "nncf": "NNCF"}


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row's figures as texts, in the order of COLUMNS."""
    times = ["/".join(f"{row[f'{how}_ms'][q]:.2f}" for q in ("p50", "p95", "p99")) for how in ("hot", "paced")]
    return [
        row["network"],
        {"onnx": "ONNX", "ir": "IR", "batch": f"ONNX, {row.get('at_once')} at once"}[row["format"]],
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
    """Print the table and its warnings on standard output."""
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in document["rows"]:
        table.add_row(*cells(row), style="bold" if row["best"] else None)
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(table)
    for warning in document["warnings"]:
        console.print(Text(f"warning: {warning}", "yellow"))


def markdown(document: Mapping[str, Any]) -> str:
    """Return the table, what it was measured on, and its warnings, as Markdown."""
    machine = document["machine"]
    engines = f"ONNX Runtime {machine['onnxruntime']}, OpenVINO {machine['openvino'] or '(not installed)'}"
    setup = f"{machine['processor']}, {machine['cores']} cores, {engines}, Python {machine['python']}, {machine['date']}"
    shared = machine["load_average"] > machine["cores"]
    load_note = (
        f" **Others used the machine (load average {machine['load_average']})**: compare rows, not days." if shared else ""
    )
    lines = [
        f"Measured on {setup}, bundle `{document['bundle']}`.{load_note}",
        "",
        *(f"- {name}: judged on {what}." for name, what in document["judged_on"].items()),
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
        shares_text = ", ".join(
            f"{precision} {PERCENTAGE_POINTS * share:.2f} %" for precision, share in sorted(by_precision.items())
        )
        lines.append(f"- {network}: ONNX Runtime and OpenVINO name the same label on {shares_text} of the inputs.")
    for network, sources in document.get("openvino_int8", {}).items():
        shares_text = ", ".join(
            f"{INT8_SOURCES[source]} {PERCENTAGE_POINTS * cost['same_label']:.2f} % of float32's labels for {cost['drop_pp']:+.2f} points lost"
            for source, cost in sources.items() if source in INT8_SOURCES
        )  # fmt: skip
        lines.append(
            f"- {network}, int8 in OpenVINO on the validation inputs: {shares_text}; the IR is of {INT8_SOURCES[sources['taken']]}."
        )
    lines += [f"- **Slower**: {warning}." for warning in document["warnings"]]
    return "\n".join(lines) + "\n"
