"""A stream that is fed by its caller: frames and sound of a robot, a server or a notebook."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from moodring.analysis.arrays import Colour, audio_frames, check_sound, grey_image
from moodring.analysis.streams.events import EventStream
from moodring.buffers import REANCHOR_NS as ARRIVAL_TOLERANCE_NS
from moodring.buffers import BoundedQueue
from moodring.capture.grey import downscale_for_faces
from moodring.capture.media.timeline import REANCHOR_NS as STAMP_TOLERANCE_NS
from moodring.capture.sound import Resampler
from moodring.clock import NS_PER_S
from moodring.config import Config
from moodring.errors import UsageError
from moodring.pipeline import Pipeline
from moodring.run.replay import Ticks
from moodring.run.workers import LOST_AFTER_NS
from moodring.types import SAMPLE_RATE_HZ, AudioBlock, DeviceState, EmotionEvent, VideoFrame

Feed = Literal["video", "audio", "both"]
Device = Literal["camera", "microphone"]

DEVICES: dict[Feed, tuple[Device, ...]] = {
    "video": ("camera",),
    "audio": ("microphone",),
    "both": ("camera", "microphone"),
}
MAX_WAITING_EVENTS = 3000  # ten minutes at five a second; older ones are dropped


class FeedStream(EventStream):
    """A stream of frames and sound that the caller pushes. Any thread may push, take events, and close.

    The data is processed in the order of its times, in the thread that pushes it. An event falls due whenever its times pass a
    tick. With explicit times the events depend on the data alone: a recording that is pushed gives the labels and
    probabilities of `moodring run`. Data waits until that of the other input has come as far; an input that lags by more than
    a second is `lost` in the events, and the other one does not wait for it. Take the events with `events()`, or iterate, which
    waits for the next one until `finish` or `close`.
    """

    def __init__(self, pipeline: Pipeline, config: Config, feed: Feed) -> None:
        super().__init__(pipeline)
        self._tick_ns = int(NS_PER_S / config.fusion.rate_hz)
        self._inputs = DEVICES[feed]
        self._push_lock = threading.RLock()
        self._queue: BoundedQueue[EmotionEvent] = BoundedQueue(MAX_WAITING_EVENTS)
        self._sound = SoundInput()
        self._pending: list[tuple[int, int, int, VideoFrame | AudioBlock]] = []  # a heap, by time, sound first
        self._numbers = itertools.count()
        self._newest_ns: dict[Device, int] = {}  # time up to which each input has come
        self._states: dict[str, DeviceState] = {
            device: "ok" if device in self._inputs else "absent" for device in ("camera", "microphone")
        }  # fmt: skip
        self._ticks: Ticks | None = None  # from the first datum on
        self._is_timed: bool | None = None
        self._is_finished = False
        self._frames = self._samples = self._out_of_order = 0

    def push_frame(self, frame: ArrayLike, time_s: float | None = None, *, colour: Colour = "rgb") -> None:
        """Process a frame: uint8 [H, W], [H, W, 3] or [H, W, 4], copied. `time_s` is its capture time; the default is now.

        Either all times are given, on one clock of the caller's choice, or none. A frame that is not later than the one before
        is dropped and counted. Raises UsageError for another array, an input that was not announced, or a finished stream.
        """
        grey, reduction = downscale_for_faces(grey_image(np.asarray(frame), colour))
        with self._push_lock:
            time_ns = self._check("camera", time_s, time.monotonic_ns())
            self._frames += 1
            if time_ns <= self._newest_ns.get("camera", time_ns - 1):
                self._out_of_order += 1
                return
            self._enqueue("camera", time_ns, VideoFrame(np.array(grey), time_ns, self._frames - 1, reduction))

    def push_audio(self, samples: ArrayLike, rate_hz: int, time_s: float | None = None) -> None:
        """Process sound: an array as for `analyze_sound`, at `rate_hz` samples a second. `time_s` is that of its first sample.

        By default the last sample is of now. Sound follows the sound before it by its sample count, unless its time differs by
        more than 40 ms (200 ms without explicit times), which is a gap. Raises as `push_frame` does.
        """
        checked = check_sound(np.asarray(samples), rate_hz)
        with self._push_lock:
            time_ns = self._check("microphone", time_s, time.monotonic_ns() - len(checked) * NS_PER_S // int(rate_hz))
            self._samples += len(checked)
            tolerance_ns = STAMP_TOLERANCE_NS if self._is_timed else ARRIVAL_TOLERANCE_NS
            for block in self._sound.push(checked, int(rate_hz), time_ns, tolerance_ns):
                self._enqueue("microphone", block.end_time_ns, block)

    def finish(self) -> None:
        """Process what is left: no more data will come. The remaining events can still be taken."""
        with self._push_lock:
            if self._is_finished:
                return
            for block in self._sound.flush():
                self._enqueue("microphone", block.end_time_ns, block)
            self._is_finished = True
            self._process(None)
            if self._ticks is not None:
                self._publish(self._ticks.finish())
            self._queue.close()

    def events(self) -> list[EmotionEvent]:
        """Return the events that fell due since the last call, without waiting."""
        return [event for event in (self._queue.take(0.0) for _ in range(len(self._queue))) if event is not None]

    def close(self) -> None:
        """End the stream without the data that is left. It can be called twice, and from any thread."""
        self._queue.close()
        super().close()

    @property
    def events_dropped(self) -> int:
        """The number of events that were dropped because they were not taken in time."""
        return self._queue.dropped

    def _check(self, device: Device, time_s: float | None, now_ns: int) -> int:
        """Return the time of a datum in ns. Raises UsageError where it cannot be accepted."""
        if self.closed or self._is_finished:
            raise UsageError("the stream is finished or closed and accepts no more data; open another one")
        if device not in self._inputs:
            what = "frames" if device == "camera" else "sound"
            raise UsageError(f"this stream was opened without {what}: open it with feed='both'")
        if self._is_timed not in (None, time_s is not None):
            raise UsageError("give time_s with all frames and sound of a stream, or with none")
        self._is_timed = time_s is not None
        if time_s is None:
            return now_ns
        if not 0 <= time_s < 1e10:
            raise UsageError(f"time_s must be seconds from 0 on, got {time_s}")
        return round(time_s * NS_PER_S)

    def _enqueue(self, device: Device, complete_ns: int, datum: VideoFrame | AudioBlock) -> None:
        if self._ticks is None:
            start_ns = datum.capture_time_ns // self._tick_ns * self._tick_ns
            self._ticks = Ticks(self._pipeline, self._tick_ns, self._states, start_ns=start_ns)
            self._newest_ns = dict.fromkeys(self._inputs, datum.capture_time_ns - 1)
        heapq.heappush(self._pending, (complete_ns, int(device == "camera"), next(self._numbers), datum))
        self._newest_ns[device] = max(complete_ns, self._newest_ns[device])
        end_ns = max(self._newest_ns.values())
        lagging = [name for name in self._inputs if end_ns - self._newest_ns[name] > LOST_AFTER_NS]
        for name in self._inputs:
            self._states[name] = "lost" if name in lagging else "ok"
        self._process(min(self._newest_ns[name] for name in self._inputs if name not in lagging))

    def _process(self, until_ns: int | None) -> None:
        """Process the pending data up to a time, all of it with None."""
        while self._ticks is not None and self._pending and (until_ns is None or self._pending[0][0] <= until_ns):
            complete_ns, *_, datum = heapq.heappop(self._pending)
            self._publish(self._ticks.push(max(complete_ns, self._ticks.arrived_ns), datum))

    def _publish(self, events: Iterator[tuple[int, EmotionEvent]]) -> None:
        for _, event in events:
            self._queue.put(event)

    def _next_event(self) -> EmotionEvent | None:
        return self._queue.take()

    def _release(self) -> None:
        with self._push_lock:
            self._pending.clear()

    def _captured(self) -> Mapping[str, int]:
        return {"frames_captured": self._frames, "samples_captured": self._samples}

    def _dropped(self) -> Mapping[str, int]:
        return {"frames_out_of_order": self._out_of_order}


class SoundInput:
    """Converts sound of any rate and channels, in pieces with times, to blocks of mono at 16 kHz."""

    def __init__(self) -> None:
        self._resampler = Resampler(SAMPLE_RATE_HZ)
        self._next_ns: int | None = None  # expected time of the next piece
        self._anchor_ns = self._count = 0  # samples since the anchor

    def push(self, samples: Any, rate_hz: int, time_ns: int, tolerance_ns: int) -> Iterator[AudioBlock]:
        """Yield the blocks that checked sound, [N, channels], completes."""
        if self._next_ns is None or abs(time_ns - self._next_ns) > tolerance_ns:
            yield from self.flush()
            self._anchor_ns, self._count, self._next_ns = time_ns, 0, time_ns
        self._next_ns += len(samples) * NS_PER_S // rate_hz
        for frame in audio_frames(samples, rate_hz):
            yield from self._block(self._resampler.push(frame))

    def flush(self) -> Iterator[AudioBlock]:
        """Yield what is left in the filter."""
        yield from self._block(self._resampler.flush())

    def _block(self, mono: Any) -> Iterator[AudioBlock]:
        if mono.size:
            yield AudioBlock(mono, self._anchor_ns + self._count * NS_PER_S // SAMPLE_RATE_HZ)
            self._count += mono.size
