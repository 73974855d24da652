"""The Lab Streaming Layer, received by the library's own inlet."""

from __future__ import annotations

import dataclasses
import math
import time
import uuid

import pytest

from moodring.labels import LABELS
from moodring.publish.lsl import LslSink
from tests.publish.test_events import EVENT, SILENT

pylsl = pytest.importorskip("pylsl", reason="no pylsl: pip install 'moodring[lsl]'", exc_type=Exception)
pytestmark = pytest.mark.live

WITHIN_S = 0.005


@pytest.fixture
def source() -> str:
    return f"moodring/test/{uuid.uuid4().hex}"


def inlet(source_id: str) -> object:
    found = pylsl.resolve_byprop("source_id", source_id, timeout=10)
    if not found:
        pytest.skip("no multicast on this machine: LSL finds no stream")
    opened = pylsl.StreamInlet(found[0])
    opened.open_stream(timeout=10)
    return opened


def test_probabilities_and_markers_carry_the_time_of_capture(source: str):
    sink = LslSink("moodring test", source)
    sink.open()
    probabilities, markers = inlet(f"{source}/probabilities"), inlet(f"{source}/markers")
    captured_ns = [time.monotonic_ns() - 1_000_000_000 + index * 200_000_000 for index in range(5)]
    said = {label: (index + 1) / 36 for index, label in enumerate(LABELS)}
    labels = ["happy", "happy", "sad", None, "sad"]
    for capture_time_ns, label in zip(captured_ns, labels, strict=True):
        event = dataclasses.replace(EVENT, label=label, probabilities=said) if label else SILENT
        sink.publish(dataclasses.replace(event, capture_time_ns=capture_time_ns))
    got = [probabilities.pull_sample(timeout=10) for _ in range(5)]
    for (values, stamp_s), capture_time_ns, label in zip(got, captured_ns, labels, strict=True):
        assert abs(stamp_s - capture_time_ns / 1e9) < WITHIN_S  # on this system LSL's clock is the monotonic one
        assert values == pytest.approx(list(said.values())) if label else all(map(math.isnan, values))
    marked = [markers.pull_sample(timeout=10) for _ in range(4)]
    assert [values[0] for values, _ in marked] == ["happy", "sad", "no_face", "sad"]
    channel, names = probabilities.info(timeout=10).desc().child("channels").child("channel"), []
    while not channel.empty():
        names.append(channel.child_value("label"))
        channel = channel.next_sibling()
    assert names == list(LABELS)
    sink.close()
    sink.publish(EVENT)
