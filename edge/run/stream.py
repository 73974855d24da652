"""One live stream: a camera and a microphone, either of which may be absent, and the threads that drive their pipeline.

    camera     --Reader--> LatestSlot --Worker: decode, process_frame, search_new_faces--\
                                                                                        pipeline --tick--> event
    microphone --Reader--> AudioRing  --Worker: process_audio----------------------------/

No stage waits for another. A slow stage drops what it cannot process, each drop is counted, and events stay on time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from moodring.buffers import AudioRing, LatestSlot
from moodring.capture.base import CapturedFrame, LiveAudioSource, LiveVideoSource
from moodring.clock import NS_PER_S, Clock
from moodring.run.workers import STUCK_NS, Reader, Worker
from moodring.types import SAMPLE_RATE_HZ, U8, AudioBlock, DeviceState, EmotionEvent, VideoFrame

RING_SECONDS = 4.0


class Stages(Protocol):
    """The part of a `Pipeline` that a stream drives."""

    def is_face_due(self, capture_time_ns: int) -> bool: ...

    def decode(self, captured: CapturedFrame) -> VideoFrame | None: ...

    def process_frame(self, frame: VideoFrame) -> None: ...

    def search_new_faces(self, frame: VideoFrame) -> None: ...

    def samples_to_next_batch(self) -> int: ...

    def process_audio(self, block: AudioBlock) -> None: ...

    def reset_video(self) -> None: ...

    def reset_audio(self) -> None: ...

    def reset_smoothing(self) -> None: ...

    def tick(
        self, now_ns: int, devices: Mapping[str, DeviceState], clock_ns: Callable[[], int] | None = None
    ) -> EmotionEvent: ...


class Stream:
    """Drives one pipeline from one camera and one microphone. `tick` is called from the main thread."""

    def __init__(
        self,
        pipeline: Stages,
        camera: LiveVideoSource | None,
        microphone: LiveAudioSource | None,
        clock: Clock,
        log: Callable[[str], None],
        *,
        frozen_s: float = 0.0,
    ) -> None:
        """`frozen_s` is the time after which a camera with an image that does not change is frozen; 0 is never."""
        self._pipeline = pipeline
        self._clock = clock
        self._log = log
        self._stopping = threading.Event()
        self._slot: LatestSlot[VideoFrame | CapturedFrame] = LatestSlot()
        self._ring = AudioRing(SAMPLE_RATE_HZ, RING_SECONDS)
        self._microphone = microphone
        self._arrived_damaged = self._above_rate = self._damaged = self._frames_failed = self._samples_failed = (
            self._ticks_failed
        ) = 0
        self._ticked_ns = clock.now_ns()
        self._processed: VideoFrame | CapturedFrame | None = None  # the frame in `search_new_faces`; it counts as processed
        self._newest_grey: U8 | None = None
        self._trouble: str | None = None
        self._readers: dict[str, Reader] = {}
        self._workers: list[Worker[VideoFrame | CapturedFrame] | Worker[AudioBlock]] = []
        if camera is not None:
            self._readers["camera"] = Reader(camera, lambda: self._read_frame(camera), self._stopping, log, clock)
            self._readers["camera"].health.frozen_after_ns = int(frozen_s * NS_PER_S) or None
            self._workers.append(
                Worker[VideoFrame | CapturedFrame](
                    f"see {camera.name}", self._slot.take, self._process_frame,
                    on_drop=self._drop_frame, on_restart=pipeline.reset_video, stop=self._stopping, log=log, clock=clock,
                )
            )  # fmt: skip
        if microphone is not None:
            self._readers["microphone"] = Reader(
                microphone, lambda: self._read_sound(microphone), self._stopping, log, clock
            )  # fmt: skip
            self._workers.append(
                Worker(
                    f"hear {microphone.name}", self._take_sound, pipeline.process_audio,
                    on_drop=self._drop_sound, on_restart=pipeline.reset_audio, stop=self._stopping, log=log, clock=clock,
                )
            )  # fmt: skip

    # counters

    @property
    def captured(self) -> dict[str, int]:
        """Counts of captured data and of device and stage failures.

        Frames captured = tracked by the pipeline + dropped; samples captured = processed by it + dropped. While a stream
        runs, data in the buffers and in a stage comes on top.
        """
        return {
            "frames_captured": self._slot.captured + self._above_rate + self._arrived_damaged,
            "samples_captured": self._ring.written,
            "clock_jumps": self._ring.reanchored,
            "devices_reopened": sum(reader.health.reopened for reader in self._readers.values()),
            "stage_failures": sum(worker.failures for worker in self._workers) + self._ticks_failed,
        }

    @property
    def dropped(self) -> dict[str, int]:
        """Counts of captured data that was not processed, by reason. Blocks that a microphone lost are not in the samples."""
        return {
            "frames_above_rate": self._above_rate,
            "frames_overwritten": self._slot.overwritten,
            "frames_damaged": self._damaged + self._arrived_damaged,
            "frames_failed": self._frames_failed,
            "samples_overrun": self._ring.lost,
            "samples_failed": self._samples_failed,
            "microphone_blocks_lost": self._microphone.blocks_dropped if self._microphone is not None else 0,
        }

    @property
    def losses(self) -> dict[str, int]:
        """Counts of what went wrong, by a description in words."""
        captured, dropped = self.captured, self.dropped
        return {
            "frames overwritten by newer ones": dropped["frames_overwritten"],
            "damaged frames": dropped["frames_damaged"],
            "frames dropped by a failed stage": dropped["frames_failed"],
            "samples overrun": dropped["samples_overrun"],
            "samples dropped by a failed stage": dropped["samples_failed"],
            "microphone blocks that were not read in time": dropped["microphone_blocks_lost"],
            "jumps of the microphone's clock": captured["clock_jumps"],
            "devices reopened": captured["devices_reopened"],
        }

    # what the threads call

    def _read_frame(self, camera: LiveVideoSource) -> tuple[int, Callable[[], None]]:
        frame = camera.read()

        def enqueue() -> None:
            if isinstance(frame, CapturedFrame) and frame.is_empty:
                self._arrived_damaged += 1
                self._note_damaged(frame)
            elif self._pipeline.is_face_due(frame.capture_time_ns):
                self._slot.put(frame)
            else:  # above the face rate; a frame of a network camera is not even decoded
                self._above_rate += 1

        return frame.capture_time_ns, enqueue

    def _process_frame(self, captured: VideoFrame | CapturedFrame) -> None:
        frame = self._pipeline.decode(captured) if isinstance(captured, CapturedFrame) else captured
        if frame is None:
            self._damaged += 1
            self._note_damaged(captured)
        else:
            self._note_frame(frame)
            self._pipeline.process_frame(frame)
            self._processed = captured
            self._pipeline.search_new_faces(frame)
            self._processed = None

    def _note_damaged(self, captured: VideoFrame | CapturedFrame) -> None:
        health = self._readers["camera"].health
        health.note_damaged(captured.capture_time_ns, f"camera {health.name} sends damaged frames")

    def _note_frame(self, frame: VideoFrame) -> None:
        """Compare a frame with the one before, and log where the camera freezes or recovers."""
        health = self._readers["camera"].health
        was_frozen, grey, before = health.is_frozen, frame.grey, self._newest_grey
        # The first rows differ already in nearly every pair.
        is_same = before is not None and np.array_equal(grey[:1], before[:1]) and np.array_equal(grey, before)
        self._newest_grey = grey
        health.accept(frame.capture_time_ns, is_same=is_same)
        if health.is_frozen and not was_frozen:
            same_s = (health.same_ns[1] - health.same_ns[0]) / NS_PER_S
            self._log(
                f"camera {health.name}: the image has not changed for {same_s:.0f} s; no face is used until it changes; "
                "restart the camera, or set video.frozen_s to 0 for a still image"
            )
        elif was_frozen and not health.is_frozen:
            self._log(f"camera {health.name}: the image changes again")

    def _drop_frame(self, captured: VideoFrame | CapturedFrame) -> None:
        self._frames_failed += captured is not self._processed  # a processed frame is counted already

    def _read_sound(self, microphone: LiveAudioSource) -> tuple[int, Callable[[], None]]:
        samples, end_time_ns = microphone.read()
        return end_time_ns, lambda: self._ring.write(samples, end_time_ns)

    def _take_sound(self, wait_s: float) -> AudioBlock | None:
        """Wait for a full batch of feature frames, which delays no window: smaller blocks only add call overhead."""
        return self._ring.read(wait_s, self._pipeline.samples_to_next_batch()).block

    def _drop_sound(self, block: AudioBlock) -> None:
        self._samples_failed += block.samples.size

    # what the main thread calls

    def start(self) -> None:
        """Start the threads, which open the devices."""
        for thread in (*self._readers.values(), *self._workers):
            thread.start()

    def tick(self) -> EmotionEvent | None:
        """Return the event for now; None where fusion failed, which resets smoothing and is logged once."""
        now_ns = self._clock.now_ns()
        try:
            event = self._pipeline.tick(now_ns, self._device_states(now_ns), self._clock.now_ns)
        except Exception as error:  # noqa: BLE001  the supervision boundary: the failure of one stream ends no other
            self._ticks_failed += 1
            if repr(error) != self._trouble:
                self._log(f"fusion failed: {error!r}; smoothing is reset and fusion continues")
            self._trouble = repr(error)
            self._pipeline.reset_smoothing()
            return None
        self._ticked_ns, self._trouble = now_ns, None
        return event

    def _device_states(self, now_ns: int) -> dict[str, DeviceState]:
        return {
            what: self._readers[what].health.state(now_ns) if what in self._readers else "absent"
            for what in ("camera", "microphone")
        }

    def dead_thread(self) -> str | None:
        """Return the name of a thread that ended although the stream was not stopped, else None."""
        threads = (*self._readers.values(), *self._workers)
        return next((t.name for t in threads if not (t.is_alive() or self._stopping.is_set())), None)

    def stop(self) -> None:
        """Ask the threads to process what is buffered, then to end."""
        self._slot.close()  # before the workers may end: all accepted data is processed
        self._ring.close()
        self._stopping.set()

    def join(self, deadline_s: float) -> None:
        """Wait for the threads until `deadline_s` of the monotonic clock. Threads that hang are left behind."""
        for thread in (*self._readers.values(), *self._workers):
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def has(self, device: str) -> bool:
        """Return whether the stream has a "camera" or "microphone"."""
        return device in self._readers

    @property
    def muted(self) -> tuple[str, ...]:
        """The muted devices."""
        return tuple(what for what, reader in self._readers.items() if reader.health.muted)

    def mute(self, device: str, muted: bool) -> bool:
        """Mute or unmute "camera" or "microphone"; return whether the stream has such a device."""
        if device not in self._readers:
            return False
        if device == "camera" and muted:
            self._newest_grey = None
        self._readers[device].health.muted = muted
        return True

    def makes_progress(self) -> bool:
        """Return whether every reader and stage did something recently, even if it failed. A watchdog asks this."""
        now_ns = self._clock.now_ns()
        alive = all(reader.is_alive() and now_ns - reader.health.alive_ns <= STUCK_NS for reader in self._readers.values())
        return alive and now_ns - self._ticked_ns <= STUCK_NS and not any(worker.is_stuck(now_ns) for worker in self._workers)
