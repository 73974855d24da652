"""Recordings through a pipeline, in the order of their own time stamps: no thread, and twice the same events."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from moodring.capture.base import AudioSource, VideoSource
from moodring.clock import Clock
from moodring.telemetry import Stages
from moodring.types import AudioBlock, DeviceState, EmotionEvent, VideoFrame


def replay(
    pipeline: Stages,
    video: VideoSource | None,
    audio: AudioSource | None,
    publish: Callable[[EmotionEvent], None],
    *,
    tick_ns: int,
    pace: Clock | None = None,
    until_ns: int | None = None,
) -> None:
    """Feed recordings through the pipeline in the order of their time stamps and publish an event at every tick.

    `pace` makes it wait for the media's own time; without it everything goes as fast as it can. Either way the same input
    gives the same events.
    """
    devices: dict[str, DeviceState] = {
        "camera": "ok" if video is not None else "absent",
        "microphone": "ok" if audio is not None else "absent",
    }
    start_ns = pace.now_ns() if pace else 0
    due_ns = tick_ns

    def tick_until(now_ns: int) -> None:
        nonlocal due_ns
        while due_ns <= now_ns:
            if pace:
                pace.sleep_until_ns(start_ns + due_ns)
            publish(pipeline.tick(due_ns, devices))
            due_ns += tick_ns

    arrived_ns = 0
    for arrived_ns, datum in _in_order(video, audio):
        if until_ns is not None and arrived_ns > until_ns:
            break
        tick_until(arrived_ns - 1)
        if pace:
            pace.sleep_until_ns(start_ns + arrived_ns)
        if isinstance(datum, VideoFrame):
            pipeline.see(datum)
            pipeline.explore(datum)
        else:
            pipeline.hear(datum)
    tick_until(arrived_ns if until_ns is None else min(arrived_ns, until_ns))


def _in_order(video: VideoSource | None, audio: AudioSource | None) -> Iterator[tuple[int, VideoFrame | AudioBlock]]:
    """Merge pictures and sound by when they were complete; sound first where both come at once."""
    frames: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((f.capture_time_ns, 1, f) for f in video or ())
    blocks: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((b.end_time_ns, 0, b) for b in audio or ())
    for time_ns, _, datum in heapq.merge(frames, blocks, key=lambda item: item[:2]):
        yield time_ns, datum
