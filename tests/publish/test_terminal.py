"""The terminal panel."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from moodring.publish.terminal import TerminalView
from moodring.types import EmotionEvent
from tests.support.example_events import EVENT, NO_FACE_EVENT


@pytest.mark.parametrize("event", [EVENT, NO_FACE_EVENT], ids=["ok", "no_face"])
def test_panel_shows_title_and_label_or_state(event: EmotionEvent):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    view = TerminalView("moodring: [/bold]clip.mp4", lambda: -20.0, console)
    view.publish(event)
    view.close()
    shown = console.file.getvalue()
    assert "[/bold]clip.mp4" in shown  # square brackets in a name are not markup
    assert ("happy" in shown) == (event is EVENT)
    assert ("no face in view, no speech" in shown) == (event is NO_FACE_EVENT)
