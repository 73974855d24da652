"""What moves data through a pipeline: a replay of recordings, or live devices with a thread each. Only here are threads."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from edge.buffers import AudioRing, LatestSlot
from edge.capture.base import AudioSource, LiveAudio, LiveVideo, VideoSource
from edge.clock import NS_PER_S, Clock
from edge.errors import DeviceError, MoodringError
from edge.telemetry import Stages
from edge.types import AudioBlock, DeviceState, EmotionEvent, VideoFrame

LOST_AFTER_NS = NS_PER_S  # without a fresh datum a device is lost, whatever its library says
RING_SECONDS = 4.0
REOPEN_FIRST_S, REOPEN_LAST_S = 0.25, 2.0
JITTER = 0.2  # of the wait: many machines must not knock at one server at once
JOIN_S = 1.5  # for all readers together: one that hangs in its device's library is left behind
MUTE_POLL_S = 0.1
STUCK_NS = 20 * NS_PER_S  # a reader that did nothing for so long, not even fail, hangs


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
        else:
            pipeline.hear(datum)
    tick_until(arrived_ns if until_ns is None else min(arrived_ns, until_ns))


def _in_order(video: VideoSource | None, audio: AudioSource | None) -> Iterator[tuple[int, VideoFrame | AudioBlock]]:
    """Merge pictures and sound by when they were complete; sound first where both come at once."""
    frames: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((f.capture_time_ns, 1, f) for f in video or ())
    blocks: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((b.end_time_ns, 0, b) for b in audio or ())
    for time_ns, _, datum in heapq.merge(frames, blocks, key=lambda item: item[:2]):
        yield time_ns, datum


@dataclass(slots=True)
class DeviceHealth:
    """What is known of one live device. It is judged by the time since its last fresh datum."""

    name: str
    last_ns: int | None = None
    reopened: int = 0
    trouble: str | None = None
    muted: bool = False
    alive_ns: int = 0  # when its reader last did anything
    opened_once: bool = field(default=False)

    def state(self, now_ns: int) -> DeviceState:
        if self.muted:
            return "muted"
        return "ok" if self.last_ns is not None and now_ns - self.last_ns <= LOST_AFTER_NS else "lost"


class _Reader(threading.Thread):
    """Reads one device until it is told to stop; a device that fails is closed and opened again, with back-off.

    While it is muted its device is closed, so that whatever shows that it is in use (a light, the sound server) is right.
    """

    def __init__(
        self,
        device: LiveVideo | LiveAudio,
        step: Callable[[], int],
        stop: threading.Event,
        log: Callable[[str], None],
        clock: Clock,
    ) -> None:
        super().__init__(name=f"read {device.name}", daemon=True)
        self._clock = clock
        self._device = device
        self._step = step
        self._stopping = stop
        self._log = log
        self.health = DeviceHealth(device.name)
        self.died: BaseException | None = None

    def run(self) -> None:
        try:
            self._supervise()
        except Exception as error:  # noqa: BLE001  the supervision boundary: the main loop ends the process and says why
            self.died = error
        finally:
            self._device.close()

    def _supervise(self) -> None:
        wait_s = REOPEN_FIRST_S
        while not self._stopping.is_set():
            self.health.alive_ns = self._clock.now_ns()
            if self.health.muted:
                self._device.close()
                self._stopping.wait(MUTE_POLL_S)
                continue
            try:
                self._device.open()
                if self.health.opened_once:
                    self.health.reopened += 1
                self.health.opened_once = True
                while not (self._stopping.is_set() or self.health.muted):
                    self.health.last_ns = self.health.alive_ns = self._step()
                    wait_s = REOPEN_FIRST_S
                    if self.health.trouble:
                        self._log(f"{self._device.name}: back")
                        self.health.trouble = None
            except DeviceError as error:
                if str(error) != self.health.trouble:
                    self._log(str(error))
                self.health.trouble = str(error)
                self._device.close()
                self._stopping.wait(wait_s * random.uniform(1.0 - JITTER, 1.0 + JITTER))
                wait_s = min(2 * wait_s, REOPEN_LAST_S)


class LiveRun:
    """One camera and one microphone, either of which may be missing, driving one pipeline."""

    def __init__(
        self,
        pipeline: Stages,
        camera: LiveVideo | None,
        microphone: LiveAudio | None,
        clock: Clock,
        log: Callable[[str], None],
    ) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._stopping = threading.Event()
        self._ready = threading.Condition()
        self._slot: LatestSlot[VideoFrame] = LatestSlot(self._ready)
        self._ring = AudioRing(self._ready, 16_000, RING_SECONDS)
        self._microphone = microphone
        self._readers: dict[str, _Reader] = {}
        if camera is not None:
            self._readers["camera"] = _Reader(camera, lambda: self._read_frame(camera), self._stopping, log, clock)
        if microphone is not None:
            self._readers["microphone"] = _Reader(microphone, lambda: self._read_sound(microphone), self._stopping, log, clock)

    @property
    def losses(self) -> dict[str, int]:
        """What was captured and never reached the pipeline, and what happened to the devices, by name."""
        return {
            "frames overwritten by newer ones": self._slot.overwritten,
            "samples overrun": self._ring.lost,
            "blocks of the microphone that were not read in time": self._blocks_lost,
            "jumps of the microphone's clock": self._ring.reanchored,
            "devices opened again": sum(reader.health.reopened for reader in self._readers.values()),
        }

    @property
    def captured(self) -> dict[str, int]:
        """What the devices gave: captured = seen or heard by the pipeline + dropped + what waits in the buffers."""
        return {
            "frames_captured": self._slot.captured,
            "samples_captured": self._ring.written,
            "clock_jumps": self._ring.reanchored,
            "devices_reopened": sum(reader.health.reopened for reader in self._readers.values()),
        }

    @property
    def dropped(self) -> dict[str, int]:
        """What was captured and never reached the pipeline, by reason."""
        return {
            "frames_overwritten": self._slot.overwritten,
            "samples_overrun": self._ring.lost,
            "microphone_blocks_lost": self._blocks_lost,
        }

    @property
    def _blocks_lost(self) -> int:
        return self._microphone.blocks_lost if self._microphone is not None else 0

    def _read_frame(self, camera: LiveVideo) -> int:
        frame = camera.read()
        self._slot.put(frame)
        return frame.capture_time_ns

    def _read_sound(self, microphone: LiveAudio) -> int:
        samples, end_time_ns = microphone.read()
        if samples.size:
            self._ring.write(samples, end_time_ns)
        return end_time_ns

    def run(self, publish: Callable[[EmotionEvent], None], *, tick_ns: int, seconds: float | None) -> None:
        """Publish an event at every tick until the time is up or the caller interrupts."""
        started_ns = self._clock.now_ns()
        end_ns = None if seconds is None else started_ns + int(seconds * NS_PER_S)
        due_ns = started_ns + tick_ns
        for reader in self._readers.values():
            reader.start()
        try:
            while end_ns is None or due_ns <= end_ns:
                self._work_until(due_ns)
                self._check_readers()
                now_ns = self._clock.now_ns()
                publish(self._pipeline.tick(now_ns, self._devices(now_ns), self._clock.now_ns))
                due_ns = max(due_ns + tick_ns, now_ns)  # a late tick is skipped, never made up for
        finally:
            self._stop()

    def _work_until(self, due_ns: int) -> None:
        """Give the pipeline what arrives until the tick is due; the newest frame wins, sound is taken whole."""
        while (remaining_ns := due_ns - self._clock.now_ns()) > 0:
            frame = self._slot.take()
            if frame is not None:
                self._pipeline.see(frame)
            block = self._ring.read().block
            if block is not None:
                self._pipeline.hear(block)
            if frame is None and block is None:
                with self._ready:
                    self._ready.wait_for(self._is_something_there, remaining_ns / NS_PER_S)

    def _is_something_there(self) -> bool:
        return self._slot.waiting or self._ring.waiting > 0

    def _check_readers(self) -> None:
        for what, reader in self._readers.items():
            if reader.died is not None:
                raise MoodringError(f"the thread that reads the {what} died: {reader.died!r}") from reader.died

    def _devices(self, now_ns: int) -> dict[str, DeviceState]:
        return {
            what: self._readers[what].health.state(now_ns) if what in self._readers else "absent"
            for what in ("camera", "microphone")
        }

    def _stop(self) -> None:
        self._stopping.set()
        deadline = time.monotonic() + JOIN_S
        for reader in self._readers.values():
            reader.join(max(0.0, deadline - time.monotonic()))

    # what may be asked of a run from outside

    def toggle_mute(self, device: str) -> bool:
        """Mute "camera" or "microphone", or let it be seen or heard again; return whether it is muted now."""
        if device not in self._readers:
            return False
        health = self._readers[device].health
        health.muted = not health.muted
        return health.muted

    def mute(self, device: str, muted: bool) -> bool:
        """Mute "camera" or "microphone", or let it be seen or heard again; return whether there is such a device."""
        if device not in self._readers:
            return False
        self._readers[device].health.muted = muted
        return True

    def makes_progress(self) -> bool:
        """Whether every reader did something lately, if only fail: what a watchdog wants to know."""
        now_ns = self._clock.now_ns()
        return all(now_ns - reader.health.alive_ns <= STUCK_NS for reader in self._readers.values())
