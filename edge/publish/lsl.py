"""Lab Streaming Layer (LSL) sink: a stream of probabilities and a stream of markers, both stamped with the capture time.

pylsl announces its streams on the local network. It is loaded only if `lsl.enabled` is true.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Sequence
from typing import Any

from moodring import __version__
from moodring.clock import NS_PER_S
from moodring.errors import UsageError
from moodring.labels import LABELS
from moodring.publish.base import Event
from moodring.types import EmotionEvent

OFFSET_READINGS = 5


def load_pylsl() -> Any:
    """Return the module pylsl. Raises UsageError if pylsl or liblsl is not installed."""
    try:
        return importlib.import_module("pylsl")
    except ModuleNotFoundError as error:
        raise UsageError("the Lab Streaming Layer needs pylsl: pip install 'moodring[lsl]'") from error
    except (RuntimeError, OSError) as error:  # pylsl is installed, but not liblsl
        raise UsageError(
            "pylsl does not find the library liblsl: install it (https://labstreaminglayer.readthedocs.io)"
        ) from error


class LslSink:
    """Publishes each emotion event as a sample and each change of label or state as a marker.

    A sample has one float32 channel for each label: its probability, NaN without a result. Both streams carry the capture time
    in the LSL clock. `source_id` identifies the streams to LSL recorders across restarts.
    """

    def __init__(self, name: str, source_id: str, labels: Sequence[str] = LABELS) -> None:
        self._lsl = load_pylsl()
        self._name = name
        self._labels = labels
        self._source_id = source_id
        self._probability_outlet: Any = None
        self._marker_outlet: Any = None
        self._offset_s = 0.0
        self._last_marker: str | None = None

    def open(self) -> None:
        """Announce both streams."""
        lsl = self._lsl
        info = lsl.StreamInfo(
            self._name, "Expression", len(self._labels), lsl.IRREGULAR_RATE, lsl.cf_float32, f"{self._source_id}/probabilities"
        )
        description = info.desc()
        description.append_child_value("manufacturer", "moodring").append_child_value("version", __version__)
        channels = description.append_child("channels")
        for label in self._labels:
            channel = channels.append_child("channel")
            channel.append_child_value("label", label)
            channel.append_child_value("unit", "probability").append_child_value("type", "Expression")
        markers = lsl.StreamInfo(
            f"{self._name} markers", "Markers", 1, lsl.IRREGULAR_RATE, lsl.cf_string, f"{self._source_id}/markers"
        )
        self._offset_s = self._measure_offset_s()
        self._probability_outlet = lsl.StreamOutlet(info)
        self._marker_outlet = lsl.StreamOutlet(markers)

    def _measure_offset_s(self) -> float:
        """Return the LSL clock minus the monotonic clock, in seconds, from the reading that took the shortest time."""
        readings = []  # (duration in ns, offset in s)
        for _ in range(OFFSET_READINGS):
            before_ns = time.monotonic_ns()
            lsl_clock_s = self._lsl.local_clock()
            after_ns = time.monotonic_ns()
            readings.append((after_ns - before_ns, lsl_clock_s - (before_ns + after_ns) / 2 / NS_PER_S))
        return float(min(readings)[1])

    def publish(self, event: Event) -> None:
        if not isinstance(event, EmotionEvent) or self._probability_outlet is None:
            return
        stamp_s = event.capture_time_ns / NS_PER_S + self._offset_s
        probabilities = event.probabilities or {}
        self._probability_outlet.push_sample([probabilities.get(label, math.nan) for label in self._labels], stamp_s)
        marker = event.label or event.state
        if marker != self._last_marker:
            self._marker_outlet.push_sample([marker], stamp_s)
            self._last_marker = marker

    def close(self) -> None:
        """Withdraw both streams. pylsl does so when its outlets are garbage-collected."""
        self._probability_outlet = self._marker_outlet = None
