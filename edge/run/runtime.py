"""Live streams: the devices, stages and threads of each, and the clock that lets all of them speak. Only here are threads.

    camera     --Reader--> LatestSlot --Worker: decode, see--\
                                                              pipeline --tick, at its rate, in the main thread--> publish
    microphone --Reader--> AudioRing  --Worker: hear---------/

No stage waits for another: a slow one skips what it cannot take, counted, and the events stay on time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

from moodring.buffers import AudioRing, LatestSlot
from moodring.capture.base import LiveAudio, LiveVideo, Undecoded
from moodring.clock import NS_PER_S, Clock
from moodring.errors import MoodringError
from moodring.run.workers import STUCK_NS, Reader, Worker
from moodring.telemetry import Stages
from moodring.types import AudioBlock, DeviceState, EmotionEvent, VideoFrame

RING_SECONDS = 4.0
JOIN_S = 1.5  # for all threads together: one that hangs in its device's library is left behind


class LiveStream:
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
        self._log = log
        self._stopping = threading.Event()
        self._slot: LatestSlot[VideoFrame | Undecoded] = LatestSlot()
        self._ring = AudioRing(16_000, RING_SECONDS)
        self._microphone = microphone
        self._above_rate = self._damaged = self._frames_failed = self._samples_failed = self._ticks_failed = 0
        self._ticked_ns = clock.now_ns()
        self._seen: VideoFrame | Undecoded | None = None  # the frame that is being explored
        self._trouble: str | None = None
        self._readers: dict[str, Reader] = {}
        self._workers: list[Worker[VideoFrame | Undecoded] | Worker[AudioBlock]] = []
        if camera is not None:
            self._readers["camera"] = Reader(camera, lambda: self._read_frame(camera), self._stopping, log, clock)
            self._workers.append(
                Worker[VideoFrame | Undecoded](
                    f"see {camera.name}", self._slot.take, self._see,
                    lose=self._lose_frame, begin_anew=pipeline.forget_sight, stop=self._stopping, log=log, clock=clock,
                )
            )  # fmt: skip
        if microphone is not None:
            self._readers["microphone"] = Reader(
                microphone, lambda: self._read_sound(microphone), self._stopping, log, clock
            )  # fmt: skip
            self._workers.append(
                Worker(
                    f"hear {microphone.name}", self._take_sound, pipeline.hear,
                    lose=self._lose_sound, begin_anew=pipeline.forget_sound, stop=self._stopping, log=log, clock=clock,
                )
            )  # fmt: skip

    # what is counted

    @property
    def captured(self) -> dict[str, int]:
        """What the devices gave, and what happened to them.

        Frames captured = tracked by the pipeline + dropped, and samples captured = heard by it + dropped; while a stream runs
        there is also what waits and what is worked on.
        """
        return {
            "frames_captured": self._slot.captured + self._above_rate,
            "samples_captured": self._ring.written,
            "clock_jumps": self._ring.reanchored,
            "devices_reopened": sum(reader.health.reopened for reader in self._readers.values()),
            "stage_failures": sum(worker.failures for worker in self._workers) + self._ticks_failed,
        }

    @property
    def dropped(self) -> dict[str, int]:
        """What was captured and not used, by reason; blocks of a microphone that were lost before are no samples captured."""
        return {
            "frames_above_rate": self._above_rate,
            "frames_overwritten": self._slot.overwritten,
            "frames_damaged": self._damaged,
            "frames_failed": self._frames_failed,
            "samples_overrun": self._ring.lost,
            "samples_failed": self._samples_failed,
            "microphone_blocks_lost": self._microphone.blocks_lost if self._microphone is not None else 0,
        }

    @property
    def losses(self) -> dict[str, int]:
        """What went wrong, in words, for people."""
        captured, dropped = self.captured, self.dropped
        return {
            "frames overwritten by newer ones": dropped["frames_overwritten"],
            "damaged frames": dropped["frames_damaged"],
            "frames lost to a stage that failed": dropped["frames_failed"],
            "samples overrun": dropped["samples_overrun"],
            "samples lost to a stage that failed": dropped["samples_failed"],
            "blocks of the microphone that were not read in time": dropped["microphone_blocks_lost"],
            "jumps of the microphone's clock": captured["clock_jumps"],
            "devices opened again": captured["devices_reopened"],
        }

    # what the threads do

    def _read_frame(self, camera: LiveVideo) -> tuple[int, Callable[[], None]]:
        frame = camera.read()

        def keep() -> None:
            if self._pipeline.is_face_due(frame.capture_time_ns):
                self._slot.put(frame)
            else:  # nobody would look at it: it is not even decoded
                self._above_rate += 1

        return frame.capture_time_ns, keep

    def _see(self, captured: VideoFrame | Undecoded) -> None:
        frame = self._pipeline.decode(captured) if isinstance(captured, Undecoded) else captured
        if frame is None:
            self._damaged += 1
            health = self._readers["camera"].health
            health.doubt(f"camera {health.name} sent a damaged picture")
        else:
            self._pipeline.see(frame)
            self._seen = captured
            self._pipeline.explore(frame)
            self._seen = None

    def _lose_frame(self, captured: VideoFrame | Undecoded) -> None:
        self._frames_failed += captured is not self._seen  # what was seen is counted already

    def _read_sound(self, microphone: LiveAudio) -> tuple[int, Callable[[], None]]:
        samples, end_time_ns = microphone.read()
        return end_time_ns, lambda: self._ring.write(samples, end_time_ns)

    def _take_sound(self, wait_s: float) -> AudioBlock | None:
        """As much at once as no window has to wait for: a call of the stage costs more than what it does with a block."""
        return self._ring.read(wait_s, self._pipeline.sound_due()).block

    def _lose_sound(self, block: AudioBlock) -> None:
        self._samples_failed += block.samples.size

    # what drives them

    def start(self) -> None:
        for thread in (*self._readers.values(), *self._workers):
            thread.start()

    def tick(self) -> EmotionEvent | None:
        """Say what is known now; None where the fusing stage failed, which is begun anew and said once."""
        now_ns = self._clock.now_ns()
        try:
            event = self._pipeline.tick(now_ns, self._devices(now_ns), self._clock.now_ns)
        except Exception as error:  # noqa: BLE001  the supervision boundary: one stream's failure ends no other
            self._ticks_failed += 1
            if repr(error) != self._trouble:
                self._log(f"fusing failed and is begun anew: {error!r}")
            self._trouble = repr(error)
            self._pipeline.forget_said()
            return None
        self._ticked_ns, self._trouble = now_ns, None
        return event

    def _devices(self, now_ns: int) -> dict[str, DeviceState]:
        return {
            what: self._readers[what].health.state(now_ns) if what in self._readers else "absent"
            for what in ("camera", "microphone")
        }

    def dead_thread(self) -> str | None:
        """Return the name of a thread that ended without having been told to."""
        threads = (*self._readers.values(), *self._workers)
        return next((t.name for t in threads if not (t.is_alive() or self._stopping.is_set())), None)

    def halt(self) -> None:
        """Let the threads work off what waits, and end."""
        self._slot.close()  # before the workers may end: what was taken in is worked off, to the last
        self._ring.close()
        self._stopping.set()

    def join(self, deadline_s: float) -> None:
        """Wait until the threads have ended, or until `deadline_s` of the monotonic clock; those that hang are left behind."""
        for thread in (*self._readers.values(), *self._workers):
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))

    # what may be asked of a stream from outside

    def has(self, device: str) -> bool:
        return device in self._readers

    @property
    def muted(self) -> tuple[str, ...]:
        return tuple(what for what, reader in self._readers.items() if reader.health.muted)

    def mute(self, device: str, muted: bool) -> bool:
        """Mute "camera" or "microphone", or let it be seen or heard again; return whether there is such a device."""
        if device not in self._readers:
            return False
        self._readers[device].health.muted = muted
        return True

    def makes_progress(self) -> bool:
        """Whether every reader and stage did something lately, if only fail: what a watchdog wants to know."""
        now_ns = self._clock.now_ns()
        alive = all(reader.is_alive() and now_ns - reader.health.alive_ns <= STUCK_NS for reader in self._readers.values())
        return alive and now_ns - self._ticked_ns <= STUCK_NS and not any(worker.is_stuck(now_ns) for worker in self._workers)


class LiveRun:
    """All streams of a process, each speaking at every tick."""

    def __init__(self, streams: Mapping[str, LiveStream], clock: Clock) -> None:
        self.streams = dict(streams)
        self.ticks_skipped = 0
        self._clock = clock

    def run(
        self,
        publish: Callable[[str, EmotionEvent], None],
        *,
        tick_ns: int,
        seconds: float | None,
        between: Callable[[], int] | None = None,
    ) -> None:
        """Publish an event of each stream at every tick until the time is up or the caller interrupts.

        `between` is called between two ticks, may change the streams, and says how far the next tick is.
        """
        started_ns = self._clock.now_ns()
        end_ns = None if seconds is None else started_ns + int(seconds * NS_PER_S)
        due_ns = started_ns + tick_ns
        try:
            for stream in self.streams.values():
                stream.start()
            while end_ns is None or due_ns <= end_ns:
                self._clock.sleep_until_ns(due_ns)
                for name, stream in self.streams.items():
                    dead = stream.dead_thread()
                    if dead is not None:
                        raise MoodringError(f"the thread {dead!r} died; the log above may say why")
                    event = stream.tick()
                    if event is not None:
                        publish(name, event)
                tick_ns = between() if between is not None else tick_ns
                due_ns = self._next_due_ns(due_ns, tick_ns)
        finally:
            _end(self.streams.values())

    def _next_due_ns(self, due_ns: int, tick_ns: int) -> int:
        """A tick that comes too late is skipped, counted, and never made up for."""
        late = max(0, self._clock.now_ns() - due_ns) // tick_ns
        self.ticks_skipped += late
        return due_ns + tick_ns * (1 + late)

    def add(self, name: str, stream: LiveStream) -> None:
        self.streams[name] = stream
        stream.start()

    def remove(self, names: Collection[str]) -> None:
        """End streams; what they counted stays true."""
        _end([self.streams.pop(name) for name in names])

    def toggle_mute(self, device: str) -> bool:
        """Mute "camera" or "microphone" in all streams, or let it in again in all; return whether it is muted now."""
        having = [stream for stream in self.streams.values() if stream.has(device)]
        muted = any(device not in stream.muted for stream in having)
        self.mute(device, muted)
        return muted

    def mute(self, device: str, muted: bool) -> None:
        """Mute "camera" or "microphone" in all streams that have one, or let it in again."""
        for stream in self.streams.values():
            stream.mute(device, muted)

    def makes_progress(self) -> bool:
        return all(stream.makes_progress() for stream in self.streams.values())


def _end(streams: Collection[LiveStream]) -> None:
    """All at once, so that they take no longer than the slowest."""
    for stream in streams:
        stream.halt()
    deadline_s = time.monotonic() + JOIN_S
    for stream in streams:
        stream.join(deadline_s)
