"""The distributor: events to all sinks, and status events."""

from __future__ import annotations

import dataclasses

from moodring.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from moodring.publish.cloudevents import to_document
from moodring.publish.distributor import Distributor
from moodring.telemetry import Telemetry
from moodring.types import EmotionEvent, StatusEvent
from tests.support.events import check_status
from tests.support.example_events import EVENT


class RecordingSink:
    def __init__(self) -> None:
        self.received: list[object] = []
        self.closed = False

    def publish(self, event: object) -> None:
        self.received.append(event)

    def close(self) -> None:
        self.closed = True


def make_telemetry(clock: SimulatedClock) -> Telemetry:
    return Telemetry(clock, counters=lambda: {"events": 9}, dropped=lambda: {"frames": 1}, level_dbfs=lambda: -20.0)


def test_distributor_publishes_a_status_every_second():
    clock = SimulatedClock()
    sink = RecordingSink()
    with Distributor(make_telemetry(clock), clock, fail_fast=[sink]) as distributor:
        for tick in range(1, 16):
            clock.sleep_until_ns(tick * 200 * NS_PER_MS)
            camera = "lost" if 7 <= tick < 9 else "ok"
            distributor.publish(dataclasses.replace(EVENT, seq=tick, devices={"camera": camera, "microphone": "ok"}))
    assert sink.closed
    statuses = [event for event in sink.received if isinstance(event, StatusEvent)]
    assert sum(isinstance(event, EmotionEvent) for event in sink.received) == 15
    assert [status.time_ns for status in statuses] == [NS_PER_S, 2 * NS_PER_S, 3 * NS_PER_S]
    assert [status.seq for status in statuses] == [0, 1, 2]
    changes = [[(change.device, change.state) for change in status.device_changes] for status in statuses]
    assert changes == [[], [("camera", "lost"), ("camera", "ok")], []]
    assert statuses[0].latency["capture_to_event"].count == 5
    assert statuses[0].counters == {"events": 9}
    for status in statuses:
        check_status(to_document(status))


def test_distributor_publishes_no_status_if_disabled():
    clock = SimulatedClock()
    sink = RecordingSink()
    with Distributor(make_telemetry(clock), clock, fail_fast=[sink], with_status=False) as distributor:
        clock.sleep_until_ns(10 * NS_PER_S)
        distributor.publish(EVENT)
    assert sink.received == [EVENT]
