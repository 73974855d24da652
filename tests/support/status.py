"""A status event of typical size."""

from __future__ import annotations

from moodring.types import DeviceChange, Latency, SinkState, StatusEvent

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
