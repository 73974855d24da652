"""Write the tables of docs/export.md from measured figures.

usage: python -m docs.generate.export_page FORMS.json DOCS_DIR

Copies the figures to DOCS_DIR/benchmarks/forms.json. The text outside the markers stays unchanged.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moodring.errors import ExportError, MoodringError
from moodring.export.quantization.data import PERCENTAGE_POINTS
from moodring.export.table_text import markdown
from moodring.inference.bundle import BUNDLE_FILE, DEFAULT

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"


def replace_section(page: str, name: str, text: str) -> str:
    """Return the page with `text` between the markers of a section. Raise ExportError unless each marker occurs once."""
    begin, end = BEGIN.format(name), END.format(name)
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ExportError(f"the page must contain {begin} and {end}, each once")
    head, rest = page.split(begin)
    return f"{head}{begin}\n{text.strip()}\n{end}{rest.split(end)[1]}"


def int8_table(document: Mapping[str, Any]) -> str:
    """Return the effect of int8 on each network in ONNX Runtime, one line each, and the size of the int8 files together.

    Speeds and sizes are ratios to float32.
    """
    lines = [
        "| network | accuracy change | same label as fp32 | speed, hot | speed, paced | file size |",
        "|---|---|---|---|---|---|",
    ]
    rows = {
        (row["network"], row["precision"]): row
        for row in document["rows"]
        if (row["format"], row["engine"], row["threads"]) == ("onnx", "onnx", 1)
    }
    networks = [network for network, precision in rows if precision == "int8"]
    for network in networks:
        fp32, int8 = rows[(network, "fp32")], rows[(network, "int8")]
        speeds = (fp32[f"{how}_ms"]["p50"] / int8[f"{how}_ms"]["p50"] for how in ("hot", "paced"))
        lines.append(
            f"| {network} | {int8['change_pp']:+.2f} pp | {PERCENTAGE_POINTS * int8['same_label']:.2f} % | "
            + " | ".join(f"{speed:.2f}x" + ("" if speed >= 1 else " (**slower**)") for speed in speeds)
            + f" | {int8['bytes'] / fp32['bytes']:.2f}x |"
        )
    total = sum(rows[(network, "int8")]["bytes"] for network in networks)
    note = f"Speeds and file sizes are ratios to float32. The int8 ONNX files have {total / 1e6:.2f} MB in total."
    return "\n".join([*lines, "", note])


def shipped_note(document: Mapping[str, Any]) -> str:
    """Return a sentence on whether the measured files are those of the shipped bundle."""
    bundle_models = json.loads((DEFAULT / BUNDLE_FILE).read_text(encoding="utf-8"))["models"]
    files = {entry["path"]: entry["sha256"] for model in bundle_models.values() for entry in model["files"].values()}
    same = all(document["files"].get(name) == digest for name, digest in files.items())
    return "The measured ONNX files are byte-identical to those of the shipped bundle." if same else (
        "The measured ONNX files are **not** those of the shipped bundle; run `moodring export --table DIR` to measure it."
    )  # fmt: skip


def arm_table(document: Mapping[str, Any]) -> str:
    """Return a table of the runtime's packages that are available as wheels for 64-bit ARM Linux."""
    lines = ["| what | resolves | download | wheels for ARM |", "|---|---|---|---|"]
    for name, found in document.items():
        if not isinstance(found, dict) or "resolves" not in found:
            continue
        if found["resolves"]:
            wheels = ", ".join("-".join(wheel.split("-")[:2]) for wheel in found["for_arm"]) or "none needed"
            lines.append(f"| {name} | yes | {found['megabytes']} MB | {wheels} |")
        else:
            lines.append(f"| {name} | **no**: {found['why']} | | |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    table_path, docs = Path(arguments[0]), Path(arguments[1])
    try:
        document = json.loads(table_path.read_text(encoding="utf-8"))
        page = (docs / "export.md").read_text(encoding="utf-8")
        page = replace_section(page, "summary", int8_table(document))
        page = replace_section(page, "forms", f"{markdown(document)}\n{shipped_note(document)}")
        page = replace_section(
            page, "boards", arm_table(json.loads((docs / "benchmarks" / "aarch64.json").read_text(encoding="utf-8")))
        )
        figures_path = docs / "benchmarks" / "forms.json"
        figures_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (docs / "export.md").write_text(page, encoding="utf-8")
    except (MoodringError, OSError, ValueError) as error:
        print(f"moodring: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
