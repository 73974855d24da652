"""HTML documents without scripts and references: their frame, and the parts that all reports have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from moodring.labels import LABELS

GOLDEN_ANGLE_DEG = 137.508  # consecutive multiples give hues that differ
PLAIN = 'class="plain"'
DISPLAY_NAMES = {
    "ok": "label published",
    "no_signal": "no working device",
    "no_face": "no face in view",
    "no_speech": "no speech",
    "face": "face only",
    "speech": "voice only",
    "face and speech": "face and voice",
}
STYLE = Path(__file__).resolve().parent / "report.css"


def document(title: str, body: str, style: str = "") -> str:
    """Return an HTML document. `body` is HTML, `style` is added to the style sheet of all reports."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>
{STYLE.read_text(encoding="utf-8")}{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_document(out: Path, text: str) -> None:
    """Write a document into a file for its owner alone. Raises OSError."""
    with open(out, "w", encoding="utf-8", errors="backslashreplace", opener=_open_private) as file:
        file.write(text)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # personal data, as the events


def fill(labels: Sequence[str], index: int) -> str:
    """Return the attribute that colours a label: a class of the style sheet, or a hue for a label of a custom bundle."""
    if labels[index] in LABELS:
        return f'class="{labels[index]}"'
    return f'fill="hsl({round(index * GOLDEN_ANGLE_DEG) % 360}, 45%, 52%)"'


def bar(color: str, share: float) -> str:
    """Return a bar of a share in [0, 1]. `color` is an attribute, as `fill` returns it. The text beside it has the number."""
    return (
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="8"/>'
        f'<rect {color} width="{100 * share:.2f}" height="8"/></svg>'
    )


def format_duration(length_ms: int) -> str:
    """Return a duration in seconds, minutes or hours, in words."""
    seconds = length_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
