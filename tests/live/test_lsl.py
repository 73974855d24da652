"""The Lab Streaming Layer sink, received with the inlets of pylsl."""

from __future__ import annotations

import dataclasses
import math
import time
import uuid

import pytest

from moodring.labels import LABELS
from moodring.publish.lsl import LslSink
from tests.support.example_events import EVENT, NO_FACE_EVENT

pylsl = pytest.importorskip("pylsl", reason="no pylsl: pip install 'moodring[lsl]'", exc_type=Exception)
pytestmark = pytest.mark.live

TOLERANCE_S = 0.005


@pytest.fixture
def source_id() -> str:
    return f"moodring/test/{uuid.uuid4().hex}"


def open_inlet(source_id: str) -> object:
    found = pylsl.resolve_byprop("source_id", source_id, timeout=10)
    if not found:
        pytest.skip("LSL finds no stream: this machine has no multicast")
    inlet = pylsl.StreamInlet(found[0])
    inlet.open_stream(timeout=10)
    return inlet


def test_samples_and_markers_carry_the_capture_time(source_id: str):
    sink = LslSink("moodring test", source_id)
    sink.open()
    probabilities, markers = open_inlet(f"{source_id}/probabilities"), open_inlet(f"{source_id}/markers")
    capture_times_ns = [time.monotonic_ns() - 1_000_000_000 + index * 200_000_000 for index in range(5)]
    values_by_label = {label: (index + 1) / 36 for index, label in enumerate(LABELS)}
    labels = ["happy", "happy", "sad", None, "sad"]
    for capture_time_ns, label in zip(capture_times_ns, labels, strict=True):
        event = dataclasses.replace(EVENT, label=label, probabilities=values_by_label) if label else NO_FACE_EVENT
        sink.publish(dataclasses.replace(event, capture_time_ns=capture_time_ns))
    samples = [probabilities.pull_sample(timeout=10) for _ in range(5)]
    for (values, stamp_s), capture_time_ns, label in zip(samples, capture_times_ns, labels, strict=True):
        assert abs(stamp_s - capture_time_ns / 1e9) < TOLERANCE_S  # on this system the LSL clock is the monotonic clock
        assert values == pytest.approx(list(values_by_label.values())) if label else all(map(math.isnan, values))
    marker_samples = [markers.pull_sample(timeout=10) for _ in range(4)]
    assert [values[0] for values, _ in marker_samples] == ["happy", "sad", "no_face", "sad"]
    channel, names = probabilities.info(timeout=10).desc().child("channels").child("channel"), []
    while not channel.empty():
        names.append(channel.child_value("label"))
        channel = channel.next_sibling()
    assert names == list(LABELS)
    sink.close()
    sink.publish(EVENT)
