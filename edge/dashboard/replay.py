"""Playback of a recorded event file on the page: `moodring replay EVENTS.jsonl --page`."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from moodring.config import read
from moodring.dashboard.opening import open_page
from moodring.dashboard.recording import RecordedEvent, Skipped, read_events
from moodring.dashboard.server import PageServer
from moodring.errors import EventError, printable
from moodring.process import log
from moodring.publish.base import PageContent

MAX_PAUSE_S = 5.0  # longest pause between two events: shortens the gaps in which moodring did not run


def replay(path: Path, config_file: Path | None, port: int | None, speed: float) -> int:
    """Serve the page, play the event file once, and keep the page open until interrupted. Return the exit code.

    `port` overrides the configuration file and the environment; `speed` 2.0 plays at double speed. Raises UsageError if the
    file cannot be read, EventError if it holds no event, and the errors of `open_page`.
    """
    config = read(config_file, environment=os.environ).page
    if port is not None:
        config = dataclasses.replace(config, port=port)
    skipped = Skipped()
    events = read_events(path, skipped)
    first = next(events, None)
    if first is None:
        raise EventError("; ".join(filter(None, [f"{path} contains no event", str(skipped)])))
    page = open_page(config, PageContent("events", printable(path.name)), log)
    try:
        _play(itertools.chain((first,), events), page, speed)
        log("all events are played; the page stays open until Ctrl-C")
        if skipped.counts:
            log(f"{path}: {skipped}")
        threading.Event().wait()
    finally:
        page.close()
    return 0


def _play(events: Iterable[RecordedEvent], page: PageServer, speed: float) -> None:
    pause = threading.Event()
    latest_ms: int | None = None
    for event in events:
        if latest_ms is not None and event.time_ms > latest_ms:
            pause.wait(min(MAX_PAUSE_S, (event.time_ms - latest_ms) / 1000 / speed))
        latest_ms = event.time_ms if latest_ms is None else max(latest_ms, event.time_ms)
        page.broadcast(event.published)
