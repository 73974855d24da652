"""A sink behind its queue: slow, failing or dead, it holds nobody up, and every event is accounted for."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moodring.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from moodring.errors import PublishError
from moodring.publish.distributor import Distributor
from moodring.publish.jsonl import ReaderGoneError
from moodring.publish.queue import DirectSink, QueuedSink
from moodring.telemetry import STAGES, HistogramTimer, Telemetry
from moodring.types import EmotionEvent, StatusEvent
from tests.publish.test_events import EVENT
from tests.support.events import check_status, make_pipeline
from tests.support.signals import face_frame, frames, split_into_blocks, voice


class Sink:
    """Takes events, once the test lets it; raises what `refuse` returns."""

    def __init__(self, refuse: Callable[[object], Exception | None] = lambda _: None) -> None:
        self.got: list[object] = []
        self.tries = 0
        self.closed = False
        self.may = threading.Event()
        self.may.set()
        self.entered = threading.Event()
        self._refuse = refuse

    def publish(self, event: object) -> None:
        self.tries += 1
        self.entered.set()
        assert self.may.wait(10)
        if error := self._refuse(self.tries):
            raise error
        self.got.append(event)

    def close(self) -> None:
        self.closed = True


def opened(sink: Sink, log: Callable[[str], None] = lambda _: None, **options) -> QueuedSink:
    queued_sink = QueuedSink("sink", sink, log, **options)
    queued_sink.open()
    return queued_sink


def test_everything_given_arrives_in_order_before_the_sink_is_closed():
    sink = Sink()
    queued_sink = opened(sink)
    for number in range(400):
        queued_sink.publish(number)
    queued_sink.close()
    assert sink.got == list(range(400))
    assert sink.closed
    assert (queued_sink.published, queued_sink.dropped, queued_sink.failed, queued_sink.pending) == (400, 0, 0, 0)


def test_a_stuck_sink_holds_nobody_up_and_loses_the_oldest():
    stuck, quick = Sink(), Sink()
    stuck.may.clear()
    isolated_sinks = opened(stuck, capacity=10), opened(quick, capacity=1000)
    isolated_sinks[0].publish(0)
    assert stuck.entered.wait(5)
    start = time.monotonic()
    for number in range(1, 101):
        for queued_sink in isolated_sinks:
            queued_sink.publish(number)
    assert time.monotonic() - start < 0.5
    isolated_sinks[1].close()
    assert quick.got == list(range(1, 101))
    stuck.may.set()
    isolated_sinks[0].close()
    assert stuck.got == [0, *range(91, 101)]
    assert isolated_sinks[0].dropped == 90


def test_a_refused_event_is_tried_again_and_nothing_overtakes_it():
    said: list[str] = []
    sink = Sink(lambda tries: PublishError("no room") if tries <= 2 else None)
    queued_sink = opened(sink, said.append)
    for number in range(3):
        queued_sink.publish(number)
    deadline = time.monotonic() + 10
    while queued_sink.published < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    queued_sink.close()
    assert sink.got == [0, 1, 2]
    assert said == ["no room", "sink: publishing again"]


def test_a_bug_in_a_sink_costs_one_event_and_is_said():
    said: list[str] = []
    sink = Sink(lambda tries: ZeroDivisionError("a bug") if tries == 1 else None)
    queued_sink = opened(sink, said.append)
    queued_sink.publish(0)
    queued_sink.publish(1)
    queued_sink.close()
    assert sink.got == [1]
    assert (queued_sink.published, queued_sink.failed) == (1, 1)
    assert "a bug in publishing to sink lost an event: ZeroDivisionError" in said[0]


def test_a_reader_that_has_gone_ends_the_run_at_the_next_event():
    sink = Sink(lambda _: ReaderGoneError("gone"))
    queued_sink = opened(sink)
    queued_sink.publish(0)
    queued_sink._thread.join(0.2)  # it goes on, to be closed
    with pytest.raises(ReaderGoneError):
        [queued_sink.publish(1) for _ in range(100_000)]
    queued_sink.close()


def test_a_recording_waits_for_a_slow_sink():
    sink = Sink()
    sink.may.clear()
    queued_sink = opened(sink, capacity=2, wait_s=10.0)
    threading.Timer(0.2, sink.may.set).start()
    for number in range(20):
        queued_sink.publish(number)
    queued_sink.close()
    assert sink.got == list(range(20))
    assert queued_sink.dropped == 0


def test_a_sink_that_never_answers_is_left_behind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moodring.publish.queue.CLOSE_TIMEOUT_S", 0.1)
    said: list[str] = []
    sink = Sink()
    sink.may.clear()
    queued_sink = opened(sink, said.append)
    queued_sink.publish(0)
    assert sink.entered.wait(5)
    queued_sink.publish(1)
    queued_sink.close()
    assert said == ["sink does not answer; 1 events were left behind"]
    sink.may.set()


def test_a_sink_that_never_waits_is_served_at_once_and_its_failures_are_counted_and_said():
    said: list[str] = []
    sink = Sink(lambda tries: PublishError("no room") if tries == 1 else ZeroDivisionError("a bug") if tries == 2 else None)
    inline = DirectSink("sink", sink, said.append)
    for number in range(4):
        inline.publish(number)
    assert sink.got == [2, 3]
    assert (inline.published, inline.failed, inline.dropped, inline.pending) == (2, 2, 0, 0)
    assert said[0] == "no room"
    assert "a bug in publishing to sink lost an event" in said[1]
    assert said[2] == "sink: publishing again"
    inline.close()
    assert sink.closed


# Statuses


def telemetry(clock: SimulatedClock) -> Telemetry:
    return Telemetry(clock, counters=lambda: {"events": 9}, dropped=lambda: {"frames": 1}, level_dbfs=lambda: -20.0)


def test_a_status_comes_once_a_second_and_tells_what_happened():
    clock = SimulatedClock()
    sink = Sink()
    with Distributor(telemetry(clock), clock, fail_fast=[sink]) as distributor:
        for tick in range(1, 16):
            clock.sleep_until_ns(tick * 200 * NS_PER_MS)
            camera = "lost" if 7 <= tick < 9 else "ok"
            distributor.publish(dataclasses.replace(EVENT, seq=tick, devices={"camera": camera, "microphone": "ok"}))
    assert sink.closed
    statuses = [event for event in sink.got if isinstance(event, StatusEvent)]
    assert sum(isinstance(event, EmotionEvent) for event in sink.got) == 15
    assert [status.time_ns for status in statuses] == [NS_PER_S, 2 * NS_PER_S, 3 * NS_PER_S]
    assert [status.seq for status in statuses] == [0, 1, 2]
    changes = [[(change.device, change.state) for change in status.device_changes] for status in statuses]
    assert changes == [[], [("camera", "lost"), ("camera", "ok")], []]
    assert statuses[0].latency["capture_to_event"].count == 5
    assert statuses[0].counters == {"events": 9}
    from moodring.publish.cloudevents import to_document  # noqa: PLC0415

    for status in statuses:
        check_status(to_document(status))


def test_where_no_status_is_wanted_none_comes():
    clock = SimulatedClock()
    sink = Sink()
    with Distributor(telemetry(clock), clock, fail_fast=[sink], with_status=False) as distributor:
        clock.sleep_until_ns(10 * NS_PER_S)
        distributor.publish(EVENT)
    assert sink.got == [EVENT]


def test_the_stages_of_a_pipeline_are_timed():
    clock = SimulatedClock()
    measured = telemetry(clock)
    timer = HistogramTimer(measured, clock)
    for name, duration_ns in (("see", 3 * NS_PER_MS), ("see", 3 * NS_PER_MS), ("hear", NS_PER_MS), ("detect", NS_PER_MS)):
        with timer.stage(name):
            clock.sleep_until_ns(clock.now_ns() + duration_ns)
    with contextlib.suppress(ValueError), timer.stage("see"):
        raise ValueError
    assert set(measured.histograms) == set(STAGES)
    assert measured.histograms["see"].take_recent().p50_ms == 3.0
    assert measured.histograms["see"].take_recent() is None
    assert sum(measured.histograms["see"].counts) == 2
    assert measured.histograms["see"].sum_s == pytest.approx(0.006)
    assert sum(measured.histograms["hear"].counts) == 1


def test_a_pipeline_times_its_stages(tiny_bundle: Path):
    """Through the pipeline itself, with a face and a voice."""
    measured = telemetry(clock := SimulatedClock())
    pipeline = make_pipeline(tiny_bundle, timer=HistogramTimer(measured, clock))
    for frame in frames(face_frame(index) for index in range(5)):
        pipeline.process_frame(frame)
        pipeline.search_new_faces(frame)
    for block in split_into_blocks(voice(1.0), [1600] * 10):
        pipeline.process_audio(block)
    pipeline.tick(NS_PER_S, {"camera": "ok", "microphone": "ok"})
    counts = {name: sum(histogram.counts) for name, histogram in measured.histograms.items()}
    assert counts == {"decode": 0, "see": 5, "explore": 5, "hear": 10, "fuse": 1, "publish": 0, "capture_to_event": 0}
