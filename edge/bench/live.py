"""The chain at the pace of life: a camera and a microphone that play the recording, through the runtime's own threads.

A frame is stamped when it arrives, as a camera's is; the answer to it is there when the face branch has read it, and the event
when the fuser's next tick has been written.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edge.bench import machine
from edge.bench.measured import STAGES, MeasuredPipeline
from edge.bench.recording import BLOCK, RATE_HZ, Recording
from edge.bench.timing import Stage
from edge.capture.base import LiveAudio, LiveVideo
from edge.capture.grey import decode_jpeg
from edge.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from edge.publish.base import Publisher
from edge.runtime import LiveRun
from edge.types import F32, EmotionEvent, VideoFrame

WARM_UP_S = 3.0


class PlayedCamera:
    """Gives a recording's JPEGs at its pace, for ever; decoding is its reader's work, as with a network camera."""

    def __init__(self, recording: Recording, decode: Stage) -> None:
        self.name = recording.name
        self.frames = 0
        self._recording = recording
        self._decode = decode.timed(decode_jpeg)
        self._due_ns = 0

    def open(self) -> None:
        self._due_ns = time.monotonic_ns()

    def read(self) -> VideoFrame:
        self._due_ns += int(NS_PER_S / self._recording.fps)
        MonotonicClock().sleep_until_ns(self._due_ns)
        now_ns = time.monotonic_ns()
        jpeg = self._recording.jpegs[self.frames % len(self._recording.jpegs)]
        self.frames += 1
        return VideoFrame(self._decode(jpeg, self._recording.reduction), now_ns, self.frames - 1, self._recording.reduction)

    def close(self) -> None:
        """Nothing is held."""


class PlayedMicrophone:
    """Gives a recording's sound in blocks of 20 ms at its pace, for ever."""

    blocks_lost = 0

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
        """Nothing is held."""


def played(recording: Recording, pipeline: MeasuredPipeline) -> tuple[LiveVideo, LiveAudio | None]:
    """Return the recording as devices; no microphone where it has no sound."""
    return PlayedCamera(recording, pipeline.stages["decode"]), PlayedMicrophone(recording) if recording.sound.size else None


def measure(
    pipeline: MeasuredPipeline, camera: LiveVideo, microphone: LiveAudio | None, publisher: Publisher, seconds: float
) -> dict[str, Any]:
    """Run for some seconds after a warm-up; latencies in milliseconds, CPU of the whole process."""
    pipeline.reset()
    pipeline.clear()
    pipeline.clock_ns = time.monotonic_ns
    clock = MonotonicClock()
    run = LiveRun(pipeline, camera, microphone, clock, lambda _: None)
    publish = pipeline.stages["publish"].timed(publisher.publish)
    latencies_ns: list[int] = []
    warm_ns = time.monotonic_ns() + int(WARM_UP_S * NS_PER_S)
    begun: list[tuple[machine.Look, int]] = []

    def take(event: EmotionEvent) -> None:
        publish(event)
        if begun:
            if event.latency_ms is not None:
                latencies_ns.append(time.monotonic_ns() - event.capture_time_ns)
        elif time.monotonic_ns() >= warm_ns:
            pipeline.clear()
            begun.append((machine.Look.now(), run.captured["frames_captured"]))

    tick_ns = int(NS_PER_S / 5)
    run.run(take, tick_ns=tick_ns, seconds=WARM_UP_S + seconds)
    begin, frames = begun[0]
    between = begin.until(end := machine.Look.now())
    cpu_s = end.own_cpu_s - begin.own_cpu_s
    seen = run.captured["frames_captured"] - frames
    return {
        "seconds": between["seconds"],
        "frames": seen,
        "core_percent": 100 * cpu_s / between["seconds"],
        "cpu_ms_per_frame": 1000 * cpu_s / max(1, seen),
        "answer_ms": _quantiles_ms(pipeline.answers_ns),
        "event_ms": _quantiles_ms(latencies_ns),
        "dropped": run.dropped,
        "stages": {name: pipeline.stages[name].figures() for name in (*STAGES, "see")},
        "machine": between,
        "troubles": machine.troubles(between),
        **machine.memory_mb(),
    }


def _quantiles_ms(durations_ns: list[int]) -> dict[str, float]:
    if not durations_ns:
        return {}
    return {
        name: float(np.percentile(durations_ns, q)) / NS_PER_MS
        for name, q in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100))
    }
