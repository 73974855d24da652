"""The server of the live page, with events that a test publishes."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import http.client
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from moodring.dashboard.guard import CSRF_HEADER, Guard, create_guard
from moodring.dashboard.server import PageServer
from moodring.labels import LABELS
from moodring.publish.base import PageContent
from moodring.types import BranchView, EmotionEvent, Face, StatusEvent
from tests.support.example_events import STATUS

SOURCE = "/moodring/host/live/0123456789ab"
STREAM = "host/live"
CUSTOM_LABELS = ("delighted", "bored & <tired>", "cross")  # of a custom bundle
EPOCH = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def probabilities(label: str, confidence: float) -> dict[str, float]:
    """Return a distribution with `confidence` on one label and the rest spread evenly."""
    rest = (1 - confidence) / (len(LABELS) - 1)
    return {name: confidence if name == label else rest for name in LABELS}


def event(seq: int = 0, label: str | None = "happy", confidence: float = 0.72, **changes: Any) -> EmotionEvent:
    """Return an event of typical size, 0.2 s after the previous one; `changes` replace its fields."""
    distribution = None if label is None else probabilities(label, confidence)
    view = None if label is None else BranchView(label, probabilities(label, confidence), 0.9, 31.0)
    typical = EmotionEvent(
        source=SOURCE,
        time_utc=(EPOCH + dt.timedelta(milliseconds=200 * seq)).isoformat().replace("+00:00", "Z"),
        seq=seq,
        capture_time_ns=200_000_000 * (seq + 1),
        state="ok" if label else "no_face",
        label=label,
        confidence=None if label is None else confidence,
        probabilities=distribution,
        modalities=("face", "speech") if label else (),
        face=view,
        speech=view,
        faces=(Face(1, (212, 96, 184, 184), 0.93),) if label else (),
        latency_ms=6.2,
        bundle_id="0123456789abcdef",
        devices={"camera": "ok", "microphone": "ok"},
        frame_wh=(640, 480),
    )
    return dataclasses.replace(typical, **changes)


def custom_event(seq: int, label: str, **changes: Any) -> EmotionEvent:
    """Return an event of a bundle with the labels `CUSTOM_LABELS`; `changes` replace its fields."""
    probabilities = {name: 0.8 if name == label else 0.1 for name in CUSTOM_LABELS}
    view = BranchView(label, probabilities, 0.9, 31.0)
    return event(seq, label, 0.8, **({"probabilities": probabilities, "face": view, "speech": view} | changes))


def status(**changes: Any) -> StatusEvent:
    """Return a status event of the same stream; `changes` replace its fields."""
    return dataclasses.replace(STATUS, **({"source": SOURCE} | changes))


class FakeMuteControl:
    """Stands in for a run: `devices` records which devices are muted."""

    def __init__(self, *devices: str) -> None:
        self.devices = dict.fromkeys(devices, False)

    def mute(self, device: str, muted: bool) -> bool:
        """Mute or unmute a device; return whether it exists."""
        if device not in self.devices:
            return False
        self.devices[device] = muted
        return True


@dataclass
class DashboardHarness:
    """A server on a loopback port, with the log lines that it wrote."""

    server: PageServer
    guard: Guard
    run: FakeMuteControl
    log_lines: list[str]
    seq: Iterator[int] = field(default_factory=itertools.count)

    @property
    def port(self) -> int:
        return self.server.port

    def publish(self, *labels: str | None) -> None:
        """Publish one event for each label; None is an event without a label."""
        for label in labels:
            self.server.publish(event(next(self.seq), label))

    def send_request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return status, headers (names in lower case) and body."""
        headers_by_name = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Host": f"127.0.0.1:{self.port}"} | headers_by_name)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    def mute(self, device: str = "camera", muted: Any = True, stream: str = STREAM, **headers: str) -> int:
        """Send the mute request of the page, with these headers changed; return the HTTP status."""
        headers_by_name = {"Content-Type": "application/json", CSRF_HEADER: self.guard.csrf_token} | headers
        body = json.dumps({"stream": stream, "device": device, "muted": muted})
        return self.send_request("POST", "/api/v1/mute", body, **headers_by_name)[0]


@contextlib.contextmanager
def serve_dashboard(
    *,
    guard: Guard | None = None,
    port: int = 0,
    previews: dict[str, Callable[[], bytes | None]] | None = None,
    mode: str = "live",
) -> Iterator[DashboardHarness]:
    """Open the server; at its end, assert that it logged no bug."""
    guard = guard or create_guard("127.0.0.1", "none", "default")
    run = FakeMuteControl("camera", "microphone")
    log_lines: list[str] = []
    content = PageContent(mode, "test", lambda: -31.25, {STREAM: run} if mode == "live" else {}, previews or {})
    server = PageServer("127.0.0.1", port, guard, content, log_lines.append)
    server.open()
    try:
        yield DashboardHarness(server, guard, run, log_lines)
    finally:
        server.close()
    assert not [line for line in log_lines if "bug" in line], log_lines
