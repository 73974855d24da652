"""`moodring replay EVENTS.jsonl --page`: a recorded event file on the same page, at its own pace."""

from __future__ import annotations

import dataclasses
import sys
import threading
from pathlib import Path

from moodring.config import PageConfig, load
from moodring.dashboard.opening import open_page
from moodring.dashboard.recording import read_events
from moodring.dashboard.server import PageServer
from moodring.errors import EventError
from moodring.publish.base import PageContent

MAX_PAUSE_S = 5.0  # between two events: a night without moodring is not sat through


def replay(path: Path, config_file: Path | None, port: int | None, speed: float) -> int:
    """Serve the page, play the event file once, and serve its last state until interrupted. `port` overrides the configuration."""
    config = load(config_file).page if config_file else PageConfig()
    if port is not None:
        config = dataclasses.replace(config, port=port)
    read = read_events(path)
    first = next(read, None)
    if first is None:
        raise EventError(f"{path} holds no event")
    page = open_page(config, PageContent("events", path.name), _log)
    try:
        _play(path, page, speed)
        _log("that was all; the page stays until Ctrl-C")
        threading.Event().wait()
    finally:
        page.close()
    return 0


def _play(path: Path, page: PageServer, speed: float) -> None:
    pause = threading.Event()
    before_ms: int | None = None
    for line in read_events(path):
        if before_ms is not None and line.time_ms > before_ms:
            pause.wait(min(MAX_PAUSE_S, (line.time_ms - before_ms) / 1000 / speed))
        before_ms = line.time_ms if before_ms is None else max(before_ms, line.time_ms)
        page.broadcast(line.published)


def _log(message: str) -> None:
    print(f"moodring: {message}", file=sys.stderr, flush=True)
