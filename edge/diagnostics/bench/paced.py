"""The chain in real time: a simulated camera and microphone play the recording through the threads of the runtime.

A frame is stamped when it arrives, like that of a camera. Its answer is the output of the face branch; its event is published
at the next tick.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from moodring.capture.base import CapturedFrame, LiveAudioSource, LiveVideoSource
from moodring.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from moodring.diagnostics.bench.machine import Snapshot, memory_mb, troubles
from moodring.diagnostics.bench.measured import STAGES, Measured, StageRecorder
from moodring.diagnostics.bench.recording import BLOCK, RATE_HZ, Recording
from moodring.diagnostics.bench.timing import NOISY_SPREAD, spread
from moodring.process import log
from moodring.publish.base import Publisher
from moodring.run.stream import Stream
from moodring.run.ticks import TickLoop
from moodring.telemetry import sum_counts
from moodring.types import F32, EmotionEvent

WARM_UP_S = 3.0
EVENTS_HZ = 5


class PlayedCamera:
    """Plays the JPEGs of a recording in real time, in a loop, undecoded like a network camera; starts at frame `first`."""

    def __init__(self, recording: Recording, first: int = 0) -> None:
        self.name = recording.name
        self._recording = recording
        self._next = first
        self._due_ns = 0

    def open(self) -> None:
        self._due_ns = time.monotonic_ns()

    def read(self) -> CapturedFrame:
        self._due_ns += int(NS_PER_S / self._recording.fps)
        MonotonicClock().sleep_until_ns(self._due_ns)
        self._next += 1
        return self._recording.captured(self._next - 1, time.monotonic_ns())

    def close(self) -> None:
        """Do nothing: no resource is held."""


class PlayedMicrophone:
    """Plays the sound of a recording in blocks of 20 ms in real time, in a loop."""

    blocks_dropped = 0

    def __init__(self, recording: Recording) -> None:
        self.name = recording.name
        self._sound = recording.sound
        self._position = 0
        self._due_ns = 0

    def open(self) -> None:
        self._due_ns = time.monotonic_ns()

    def read(self) -> tuple[F32, int]:
        self._due_ns += BLOCK * NS_PER_S // RATE_HZ
        MonotonicClock().sleep_until_ns(self._due_ns)
        block = np.take(self._sound, np.arange(self._position, self._position + BLOCK), mode="wrap")
        self._position = (self._position + BLOCK) % self._sound.size
        return block, time.monotonic_ns()

    def close(self) -> None:
        """Do nothing: no resource is held."""


Devices = tuple[LiveVideoSource, LiveAudioSource | None]


def played(recording: Recording, first: int = 0) -> Devices:
    """Return the recording as devices; None instead of a microphone where it has no sound."""
    return PlayedCamera(recording, first), PlayedMicrophone(recording) if recording.sound.size else None


def measure(measured: Sequence[Measured], devices: Sequence[Devices], publisher: Publisher, seconds: float) -> dict[str, Any]:
    """Run one or several streams for some seconds after a warm-up; return latencies in ms and the CPU of the process.

    Stages are those of the first stream; latencies and counts are those of all streams.
    """
    clock = MonotonicClock()
    streams = {}
    recorders = [one.recorder for one in measured]
    for index, (one, (camera, microphone)) in enumerate(zip(measured, devices, strict=True)):
        one.pipeline.reset()
        one.recorder.clear()
        one.recorder.clock_ns = time.monotonic_ns
        streams[str(index)] = Stream(one.pipeline, camera, microphone, clock, log)
    loop = TickLoop(streams, clock)
    publish = recorders[0].stages["publish"].timed(publisher.publish)
    latencies_ns: list[int] = []
    warm_ns = time.monotonic_ns() + int(WARM_UP_S * NS_PER_S)
    start: list[tuple[Snapshot, dict[str, int]]] = []

    def take(_name: str, event: EmotionEvent) -> None:
        publish(event)
        if start:
            if event.latency_ms is not None:
                latencies_ns.append(time.monotonic_ns() - event.capture_time_ns)
        elif time.monotonic_ns() >= warm_ns:
            for recorder in recorders:
                recorder.clear()
            start.append((Snapshot.now(), _counts(streams.values())))

    loop.run(take, tick_ns=int(NS_PER_S / EVENTS_HZ), seconds=WARM_UP_S + seconds)
    begin, before = start[0]
    end = Snapshot.now()
    counted = {name: count - before[name] for name, count in _counts(streams.values()).items()}
    counted["ticks_skipped"] = loop.ticks_skipped
    figures = _figures(recorders, begin.until(end), end.own_cpu_s - begin.own_cpu_s, counted)
    return figures | {"event_ms": _quantiles_ms(latencies_ns), **memory_mb()}


def _figures(
    recorders: Sequence[StageRecorder], between: dict[str, Any], cpu_s: float, counted: dict[str, int]
) -> dict[str, Any]:  # fmt: skip
    """Return the figures of a run: CPU, latency from capture to face output, stages, and what disturbed it."""
    answers_ns = [time_ns for recorder in recorders for time_ns in recorder.answers_ns]
    spreads = _spreads(recorders[0])
    return {
        "streams": len(recorders),
        "seconds": between["seconds"],
        "counted": counted,
        "core_percent": 100 * cpu_s / between["seconds"],
        "cpu_ms_per_frame": 1000 * cpu_s / max(1, counted["frames_captured"]),
        "cpu_ms_per_answer": 1000 * cpu_s / max(1, len(answers_ns)),
        "answer_ms": _quantiles_ms(answers_ns),
        "answers_ms": [round(time_ns / NS_PER_MS, 2) for time_ns in answers_ns] if len(recorders) == 1 else [],
        "spread": spreads,
        "stages": {name: recorders[0].stages[name].figures() for name in (*STAGES, "see")},
        "machine": between,
        "troubles": [
            *troubles(between),
            *(
                f"the thirds of the run differ by {100 * by:.0f} % in {what}"
                for what, by in spreads.items()
                if by > NOISY_SPREAD
            ),
        ],
    }


def _spreads(recorder: StageRecorder) -> dict[str, float]:
    """Return the spread of the thirds of the run: of the CPU time of a classified frame, and of the time to its answer.

    The 25th percentiles are compared: they are frames without a search, which occur in all parts of a recording.
    """
    found = {}
    for what, values in (("the CPU of a frame", recorder.stages["see"].cpu_ns), ("the time to an answer", recorder.answers_ns)):
        if size := len(values) // 3:
            found[what] = spread([float(np.percentile(values[i * size : (i + 1) * size], 25)) for i in range(3)])
    return found


def _counts(streams: Iterable[Stream]) -> dict[str, int]:
    return sum_counts(part for stream in streams for part in (stream.captured, stream.dropped))


def _quantiles_ms(durations_ns: list[int]) -> dict[str, float]:
    if not durations_ns:
        return {}
    return {
        name: float(np.percentile(durations_ns, q)) / NS_PER_MS
        for name, q in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100))
    }
