"""A live terminal panel: label and probability of face, voice and their fusion, with age and latency."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from moodring.publish.base import Event
from moodring.types import BranchView, EmotionEvent

BAR_WIDTH = 24
STATE_TEXTS = {
    "ok": "",
    "no_signal": "no camera and no microphone",
    "no_face": "no face in view, no speech",
    "no_speech": "no speech",
}
COLORS = {
    "angry": "red", "disgust": "green", "fear": "magenta", "happy": "yellow", "sad": "blue", "surprise": "bright_cyan",
    "neutral": "white", "calm": "cyan",
}  # fmt: skip


class TerminalView:
    """Draws one panel and updates it with each emotion event. `level_dbfs` returns the current sound level."""

    def __init__(self, title: str, level_dbfs: Callable[[], float], console: Console | None = None) -> None:
        self._title = title
        self._level_dbfs = level_dbfs
        self._live = Live(console=console or Console(file=sys.stdout), auto_refresh=False, transient=False)
        self._live.start()

    def publish(self, event: Event) -> None:
        if isinstance(event, EmotionEvent):
            self._live.update(panel(event, self._title, self._level_dbfs()), refresh=True)

    def close(self) -> None:
        self._live.stop()


def panel(event: EmotionEvent, title: str, level_dbfs: float) -> Panel:
    """Return the panel of one event."""
    table = Table.grid(padding=(0, 2))
    table.add_column(width=8)
    table.add_column(width=9)
    table.add_column(width=BAR_WIDTH + 5)
    table.add_column(no_wrap=True)
    table.add_row("face", *_branch(event.face, "face" in event.modalities, event.devices.get("camera", "absent")))
    table.add_row("voice", *_branch(event.speech, "speech" in event.modalities, event.devices.get("microphone", "absent")))
    if event.label is not None and event.confidence is not None:
        fused = Text(event.label, style=f"bold {_color(event.label)}")
        table.add_row(Text("together", style="bold"), fused, bar(event.confidence, _color(event.label)), "")
    else:
        table.add_row(Text("together", style="bold"), "-", Text(""), STATE_TEXTS[event.state])
    latency = "" if event.latency_ms is None else f"   {event.latency_ms:.0f} ms from capture"
    level = "" if level_dbfs < -100 else f"   sound {level_dbfs:.0f} dB"
    footer = Text(f"{len(event.faces)} in view{level}{latency}", style="dim")
    return Panel(Group(table, footer), title=Text(title), title_align="left", expand=False)


def _color(label: str) -> str:
    """Return the colour of a label: white for the labels of a custom model."""
    return COLORS.get(label, "white")


def bar(fraction: float, color: str) -> Text:
    """Return a horizontal bar with its percentage, for a fraction in [0, 1]."""
    filled = round(fraction * BAR_WIDTH)
    text = Text("█" * filled, style=color)
    text.append("░" * (BAR_WIDTH - filled), style="dim")
    text.append(f" {100 * fraction:3.0f}%", style="default")
    return text


def _branch(view: BranchView | None, used: bool, device: str) -> tuple[Text, Text, Text]:
    if view is None:
        return Text("-"), Text(""), Text("" if device == "ok" else device, style="dim")
    note = f"{view.age_ms:4.0f} ms old" if used else "not usable"
    color = _color(view.label) if used else "dim"
    return Text(view.label, style=color), bar(view.probabilities[view.label], color), Text(note, style="dim")
