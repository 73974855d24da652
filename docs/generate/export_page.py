"""Write the tables of docs/export.md again, from measured figures.

usage: python -m docs.generate.export_page FORMS.json DOCS_DIR

Keeps the figures as DOCS_DIR/benchmarks/forms.json. The words of the page stay as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moodring.errors import ExportError, MoodringError
from moodring.export.table import PERCENTAGE_POINTS
from moodring.export.table_text import markdown
from moodring.inference.bundle import BUNDLE_FILE, DEFAULT

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"


def replace_section(page: str, name: str, text: str) -> str:
    """Return the page with `text` between the two marks of that name; ExportError where they are missing."""
    begin, end = BEGIN.format(name), END.format(name)
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ExportError(f"the page must hold {begin} and {end}, each once")
    head, rest = page.split(begin)
    return f"{head}{begin}\n{text.strip()}\n{end}{rest.split(end)[1]}"


def int8_table(document: Mapping[str, Any]) -> str:
    """Return what int8 does to each network in ONNX Runtime, one line each, and how large the three files are together."""
    lines = ["| network | int8 accuracy | same label as fp32 | hot | paced | file |", "|---|---|---|---|---|---|"]
    rows = {
        (row["network"], row["precision"]): row
        for row in document["rows"]
        if (row["format"], row["engine"], row["threads"]) == ("onnx", "onnx", 1)
    }
    networks = [network for network, precision in rows if precision == "int8"]
    for network in networks:
        plain, small = rows[(network, "fp32")], rows[(network, "int8")]
        times = (plain[f"{how}_ms"]["p50"] / small[f"{how}_ms"]["p50"] for how in ("hot", "paced"))
        lines.append(
            f"| {network} | {small['change_pp']:+.2f} points | {PERCENTAGE_POINTS * small['same_label']:.2f} % | "
            + " | ".join(f"{ratio:.2f}x {'as fast' if ratio >= 1 else 'as fast: **slower**'}" for ratio in times)
            + f" | {small['bytes'] / plain['bytes']:.2f} of the size |"
        )
    total = sum(rows[(network, "int8")]["bytes"] for network in networks)
    return "\n".join([*lines, "", f"The int8 ONNX files are {total / 1e6:.2f} MB together."])


def shipped_note(document: Mapping[str, Any]) -> str:
    """Say whether these are the files that ship."""
    bundle_models = json.loads((DEFAULT / BUNDLE_FILE).read_text(encoding="utf-8"))["models"]
    files = {entry["path"]: entry["sha256"] for model in bundle_models.values() for entry in model["files"].values()}
    same = all(document["files"].get(name) == digest for name, digest in files.items())
    return "Its ONNX files are those of the shipped bundle, byte for byte." if same else (
        "Its ONNX files are **not** those of the bundle that ships now: `make forms` measures again."
    )  # fmt: skip


def arm_table(document: Mapping[str, Any]) -> str:
    """Return what of the runtime can be installed on an ARM board."""
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
