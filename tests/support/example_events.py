"""Example events: an emotion event with a fused result, one without, and a status event."""

from __future__ import annotations

import dataclasses

from moodring.labels import LABELS
from moodring.types import BranchView, DeviceChange, EmotionEvent, Face, Latency, SinkState, StatusEvent

EVEN = dict.fromkeys(LABELS, 0.125)

EVENT = EmotionEvent(
    source="/moodring/host/live/0123456789ab",
    time_utc="2026-01-02T03:04:05.000006Z",
    seq=7,
    capture_time_ns=123_456_789,
    state="ok",
    label="happy",
    confidence=0.125,
    probabilities=EVEN,
    modalities=("face", "speech"),
    face=BranchView("happy", EVEN, 0.9, 12.3456),
    speech=BranchView("calm", EVEN, 0.8, 250.0),
    faces=(Face(1, (10, -2, 30, 30), 0.75),),
    latency_ms=4.5678,
    bundle_id="0123456789abcdef",
    devices={"camera": "ok", "microphone": "ok"},
)
NO_FACE_EVENT = dataclasses.replace(
    EVENT, seq=8, state="no_face", label=None, confidence=None, probabilities=None, modalities=(), face=None, speech=None,
    faces=(), latency_ms=None,
)  # fmt: skip
STATUS = StatusEvent(
    source="/moodring/host/live/0123456789ab",
    time_utc="2026-01-02T03:04:05.000006Z",
    seq=3,
    time_ns=123_456_789,
    uptime_s=4.00049,
    counters={"frames_seen": 120, "events": 20, "frames_captured": 122},
    dropped={"frames_overwritten": 2},
    devices={"camera": "lost", "microphone": "absent"},
    device_changes=(DeviceChange("camera", "lost", 123_000_000),),
    level_dbfs=-31.25,
    latency={"see": Latency(15, 2.1, 3.3, 4.00049)},
    sinks={"mqtt": SinkState(20, 0, 0, 0, 1, 0, connected=True), "jsonl": SinkState(21, 0, 0, 0)},
)
