"""Tables in Markdown, and the figures that the pages are written from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all cells are Markdown themselves."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows))


def read_figures(path: Path) -> dict[str, Any]:
    """Return the figures in a JSON file."""
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures
