"""Source names and times of a stream's events. In replay they derive from the input: name, run and time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import re
import socket
import time
import uuid
from pathlib import Path

from moodring.address import is_pipe, is_url
from moodring.capture.selection import DEFAULT_SELECTION
from moodring.config import Config
from moodring.run.sources import Sources
from moodring.types import EventIdentity

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def name_events(sources: Sources, config: Config, bundle_id: str) -> EventIdentity:
    """Return the identity of the events of a recording or of a live run."""
    recorded = [source for source in dict.fromkeys((sources.video, sources.audio)) if source is not None]
    if sources.live or any(is_url(source) or is_pipe(source) for source in recorded):
        # Device time is the monotonic clock's; the time of a network stream or a pipe counts from its start.
        return live_identity(sources.title if sources.live else "live", time.monotonic_ns() if sources.live else 0)
    d = Config()  # the sinks do not change the events
    config = dataclasses.replace(config, events=d.events, mqtt=d.mqtt, lsl=d.lsl, metrics=d.metrics, page=d.page)
    digest = hashlib.sha256(repr((config, bundle_id)).encode())
    if sources.selection != DEFAULT_SELECTION:
        digest.update(repr(sources.selection).encode())
    for source in recorded:
        digest.update(_file_digest(Path(source)))
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(recorded[0]).name)
    return EventIdentity(f"/moodring/replay/{name}/{digest.hexdigest()[:12]}", lambda ns: _utc_text(0, ns))


def live_identity(stream: str, now_ns: int) -> EventIdentity:
    """Return the identity of a stream that starts now, at `now_ns` of its clock. The wall clock is read once."""
    offset_ns = time.time_ns() - now_ns
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()) or "host"
    return EventIdentity(f"/moodring/{host}/{stream}/{uuid.uuid4().hex[:12]}", lambda ns: _utc_text(offset_ns, ns))


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _utc_text(offset_ns: int, time_ns: int) -> str:
    moment = EPOCH + dt.timedelta(microseconds=(offset_ns + time_ns) // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
