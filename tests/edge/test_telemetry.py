"""Telemetry: the stages of a pipeline are timed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from moodring.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from moodring.telemetry import STAGES, HistogramTimer, Telemetry
from tests.support.events import make_pipeline
from tests.support.signals import face_frame, frames, split_into_blocks, voice


def make_telemetry(clock: SimulatedClock) -> Telemetry:
    return Telemetry(clock, counters=dict, dropped=dict, level_dbfs=lambda: -20.0)


def test_histogram_timer_adds_the_durations_of_published_stages():
    clock = SimulatedClock()
    telemetry = make_telemetry(clock)
    timer = HistogramTimer(telemetry, clock)
    for name, duration_ns in (("see", 3 * NS_PER_MS), ("see", 3 * NS_PER_MS), ("hear", NS_PER_MS), ("detect", NS_PER_MS)):
        with timer.stage(name):
            clock.sleep_until_ns(clock.now_ns() + duration_ns)
    with contextlib.suppress(ValueError), timer.stage("see"):
        raise ValueError
    assert set(telemetry.histograms) == set(STAGES)
    assert telemetry.histograms["see"].take_recent().p50_ms == 3.0
    assert telemetry.histograms["see"].take_recent() is None
    assert sum(telemetry.histograms["see"].counts) == 2
    assert telemetry.histograms["see"].sum_s == pytest.approx(0.006)
    assert sum(telemetry.histograms["hear"].counts) == 1


def test_pipeline_times_its_stages(tiny_bundle: Path):
    telemetry = make_telemetry(clock := SimulatedClock())
    pipeline = make_pipeline(tiny_bundle, timer=HistogramTimer(telemetry, clock))
    for frame in frames(face_frame(index) for index in range(5)):
        pipeline.process_frame(frame)
        pipeline.search_new_faces(frame)
    for block in split_into_blocks(voice(1.0), [1600] * 9):
        pipeline.process_audio(block)
    pipeline.tick(NS_PER_S, {"camera": "ok", "microphone": "ok"})
    counts = {name: sum(histogram.counts) for name, histogram in telemetry.histograms.items()}
    assert counts == {"decode": 0, "see": 5, "explore": 5, "hear": 10, "fuse": 1, "publish": 0, "capture_to_event": 0}
