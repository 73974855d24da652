"""Live streams with simulated devices: counters, supervision, and the end of a run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moodring.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from moodring.errors import DeviceError
from moodring.publish.cloudevents import to_document
from moodring.run.stream import Stream
from moodring.run.ticks import TickLoop
from moodring.run.workers import LOST_AFTER_NS, DeviceHealth
from moodring.types import AudioBlock, EmotionEvent, VideoFrame
from tests.support.events import check_event, make_pipeline
from tests.support.signals import voice

TICK_NS = 50 * NS_PER_MS


class Device:
    """A device that returns or raises what a test enqueues; afterwards it fails, or hangs while `hangs` is set."""

    name = "device"
    blocks_dropped = 0

    def __init__(self, refuse: int = 0) -> None:
        self.data: queue.Queue = queue.Queue()
        self.opened = self.closed = 0
        self.hangs = False
        self._refuse = refuse

    def open(self) -> None:
        self.opened += 1
        if self.opened <= self._refuse:
            raise DeviceError("device is busy")

    def read(self):
        while True:
            try:
                datum = self.data.get(timeout=0.02)
            except queue.Empty:
                if self.hangs:
                    continue
                raise DeviceError("no more frames") from None
            if isinstance(datum, BaseException):
                raise datum
            return datum

    def close(self) -> None:
        self.closed += 1


class RecordingPipeline:
    """A pipeline that records its calls."""

    def __init__(self) -> None:
        self.frames: list[VideoFrame] = []
        self.samples = 0
        self.resets: list[str] = []

    def is_face_due(self, _: int) -> bool:
        return True

    def process_frame(self, frame: VideoFrame) -> None:
        self.frames.append(frame)

    def search_new_faces(self, _: VideoFrame) -> None:
        pass

    def reset_video(self) -> None:
        self.resets.append("sight")

    def reset_audio(self) -> None:
        self.resets.append("sound")

    def reset_smoothing(self) -> None:
        self.resets.append("said")

    def samples_to_next_batch(self) -> int:
        return 1

    def process_audio(self, block: AudioBlock) -> None:
        self.samples += block.samples.size

    def tick(self, _now_ns: int, devices: dict[str, str], _clock_ns: Callable[[], int]) -> dict[str, str]:
        return devices


def frame(index: int) -> VideoFrame:
    return VideoFrame(np.zeros((2, 2), np.uint8), time.monotonic_ns(), index)


def sound(count: int = 320) -> tuple[np.ndarray, int]:
    return np.zeros(count, np.float32), time.monotonic_ns()


def drive(stream: Stream, on_tick: Callable[[object], None], seconds: float, tick_ns: int = TICK_NS) -> TickLoop:
    live = TickLoop({"live": stream}, MonotonicClock())
    live.run(lambda _, said: on_tick(said), tick_ns=tick_ns, seconds=seconds)
    return live


def run(camera, microphone, on_tick: Callable[[dict[str, str]], None] = lambda _: None, seconds: float = 0.5, pipeline=None):
    pipeline, logged = pipeline or RecordingPipeline(), []
    stream = Stream(pipeline, camera, microphone, MonotonicClock(), logged.append)
    drive(stream, on_tick, seconds)
    return pipeline, stream, logged


class Enough(Exception):  # noqa: N818
    pass


def until(condition: Callable[[dict[str, str]], bool]) -> Callable[[dict[str, str]], None]:
    def on_tick(devices: dict[str, str]) -> None:
        if condition(devices):
            raise Enough

    return on_tick


def test_captured_data_is_processed_or_counted_as_dropped():
    camera, microphone = Device(), Device()
    for index in range(50):
        camera.data.put(frame(index))
        microphone.data.put(sound())
    pipeline, live, _ = run(camera, microphone, seconds=0.4)
    assert live._slot.captured == 50 == live._slot.taken + live._slot.overwritten
    assert len(pipeline.frames) == live._slot.taken
    assert [f.seq for f in pipeline.frames] == sorted({f.seq for f in pipeline.frames})
    assert pipeline.frames[-1].seq == 49
    assert live._ring.written == 50 * 320 == pipeline.samples + live._ring.lost
    captured, dropped = live.captured, live.dropped
    assert captured["frames_captured"] == len(pipeline.frames) + dropped["frames_overwritten"]
    assert captured["samples_captured"] == pipeline.samples + dropped["samples_overrun"]


def test_a_run_lasts_as_long_as_requested_and_keeps_its_tick_rate():
    ticks: list[dict[str, str]] = []
    start = time.monotonic()
    run(None, None, ticks.append, seconds=0.5)
    assert time.monotonic() - start == pytest.approx(0.5, abs=0.2)
    assert 8 <= len(ticks) <= 10
    assert ticks[0] == {"camera": "absent", "microphone": "absent"}


def test_a_device_that_cannot_be_opened_is_retried():
    camera = Device(refuse=2)
    camera.data.put(frame(0))
    with pytest.raises(Enough):
        run(camera, None, until(lambda devices: devices["camera"] == "ok"), seconds=10)
    assert camera.opened == 3


def test_a_device_that_fails_is_reopened_and_logged_once():
    camera = Device()
    camera.hangs = True
    for datum in (frame(0), DeviceError("no more frames"), DeviceError("no more frames"), frame(1)):
        camera.data.put(datum)
    logged: list[str] = []
    live = Stream(RecordingPipeline(), camera, None, MonotonicClock(), logged.append)
    with pytest.raises(Enough):
        drive(live, until(lambda _: is_reconnected(camera, logged)), seconds=10)
    assert logged[:2] == ["no more frames", "device: reconnected"]
    assert camera.opened == 3
    assert camera.closed >= 2
    assert live._readers["camera"].health.reopened == 2


def is_reconnected(camera: Device, logged: list[str]) -> bool:
    camera.hangs = "device: reconnected" not in logged
    return not camera.hangs


def test_a_device_that_hangs_is_lost_after_a_second():
    camera = Device()
    camera.hangs = True
    camera.data.put(frame(0))
    states: list[tuple[float, str]] = []
    start = time.monotonic()

    def record(devices: dict[str, str]) -> None:
        states.append((time.monotonic() - start, devices["camera"]))
        if len(states) > 3 and devices["camera"] == "lost":
            camera.hangs = False
            raise Enough

    with pytest.raises(Enough):
        run(camera, None, record, seconds=5)
    assert ("ok") in [state for _, state in states]
    assert states[-1][0] == pytest.approx(LOST_AFTER_NS / NS_PER_S, abs=0.4)


def test_a_bug_in_a_reader_is_logged_and_its_device_reopened():
    microphone = Device()
    microphone.data.put(ZeroDivisionError("a bug"))
    microphone.data.put(sound())
    logged: list[str] = []
    stream = Stream(RecordingPipeline(), None, microphone, MonotonicClock(), logged.append)
    with pytest.raises(Enough):
        drive(stream, until(lambda devices: devices["microphone"] == "ok"), seconds=10)
    assert logged[0] == "a bug in reading device: ZeroDivisionError('a bug')"
    assert microphone.opened == 2


class Failing(RecordingPipeline):
    """A pipeline of which every stage raises on its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.raised: set[str] = set()

    def _once(self, stage: str) -> None:
        if stage not in self.raised:
            self.raised.add(stage)
            raise ZeroDivisionError(stage)

    def process_frame(self, frame: VideoFrame) -> None:
        self._once("see")
        super().process_frame(frame)

    def process_audio(self, block: AudioBlock) -> None:
        self._once("hear")
        super().process_audio(block)

    def tick(self, now_ns: int, devices: dict[str, str], clock_ns: Callable[[], int]) -> dict[str, str]:
        self._once("tick")
        return super().tick(now_ns, devices, clock_ns)


def test_a_stage_that_raises_restarts_and_its_drops_are_counted():
    camera, microphone = Device(), Device()
    for index in range(3):
        camera.data.put(frame(index))
        microphone.data.put(sound())
    pipeline, stream, logged = run(camera, microphone, seconds=1.0, pipeline=Failing())
    assert sorted(pipeline.resets) == ["said", "sight", "sound"]
    captured, dropped = stream.captured, stream.dropped
    assert captured["stage_failures"] == 3
    assert dropped["frames_failed"] == 1
    assert dropped["samples_failed"] >= 320
    assert captured["frames_captured"] == 3 == len(pipeline.frames) + dropped["frames_overwritten"] + 1
    assert captured["samples_captured"] == 960 == pipeline.samples + dropped["samples_failed"]
    for stage in (
        "see device failed: ZeroDivisionError('see'); the stage restarts",
        "fusion failed: ZeroDivisionError('tick'); smoothing",
    ):
        assert any(line.startswith(stage) for line in logged), logged


def test_a_processed_frame_is_not_counted_as_dropped_where_the_search_raises():
    class Lost(Failing):
        def process_frame(self, frame: VideoFrame) -> None:
            RecordingPipeline.process_frame(self, frame)

        def search_new_faces(self, _: VideoFrame) -> None:
            self._once("explore")

    camera = Device()
    for index in range(3):
        camera.data.put(frame(index))
    pipeline, stream, logged = run(camera, None, seconds=1.0, pipeline=Lost())
    assert pipeline.resets.count("sight") == 1
    captured, dropped = stream.captured, stream.dropped
    assert captured["stage_failures"] == 2  # includes the first tick
    assert dropped["frames_failed"] == 0
    assert captured["frames_captured"] == 3 == len(pipeline.frames) + dropped["frames_overwritten"]
    assert any("ZeroDivisionError('explore')" in line for line in logged)


def test_a_slow_stage_delays_no_other_and_drops_frames():
    camera, microphone = Device(), Device()
    camera.hangs = microphone.hangs = True
    seen: list[int] = []
    release = threading.Event()

    class Slow(RecordingPipeline):
        def process_frame(self, frame: VideoFrame) -> None:
            seen.append(frame.seq)
            release.wait(10)

    ticks: list[float] = []

    def on_tick(_: object) -> None:
        index = len(ticks)
        ticks.append(time.monotonic())
        if index < 10:
            camera.data.put(frame(index))
            microphone.data.put(sound())
        else:
            release.set()
            camera.hangs = microphone.hangs = False

    pipeline, stream, _ = run(camera, microphone, on_tick, seconds=1.0, pipeline=Slow())
    assert pipeline.samples == 10 * 320
    assert stream.captured["frames_captured"] == 10 == len(seen) + stream.dropped["frames_overwritten"]
    assert len(ticks) >= 19
    assert stream.dropped["frames_overwritten"] >= 7
    assert seen[1] >= 8, "the newest frame is next, not the oldest"


def test_overdue_ticks_are_skipped_and_counted():
    stream = Stream(RecordingPipeline(), None, None, MonotonicClock(), lambda _: None)
    ticks: list[object] = []

    def slow_once(said: object) -> None:
        ticks.append(said)
        if len(ticks) == 2:
            time.sleep(3.5 * TICK_NS / NS_PER_S)

    live = drive(stream, slow_once, seconds=0.5)
    assert live.ticks_skipped >= 3
    assert len(ticks) + live.ticks_skipped == pytest.approx(10, abs=1)


def test_threads_end_with_the_run():
    before = set(threading.enumerate())
    camera = Device()
    for index in range(3):
        camera.data.put(frame(index))
    run(camera, None, seconds=0.2)
    assert set(threading.enumerate()) <= before  # a thread of an earlier test may end meanwhile
    assert camera.closed


class PacedMicrophone:
    """Plays a voice in blocks of 20 ms with the delays of a busy machine, and fails after some seconds."""

    name = "paced"
    blocks_dropped = 0

    def __init__(self, seconds: float) -> None:
        self._sound = voice(seconds)
        self._position = 0
        self._start_ns = time.monotonic_ns()

    def open(self) -> None:
        if self._position >= self._sound.size:
            raise DeviceError("paced is gone")

    def read(self) -> tuple[np.ndarray, int]:
        piece = self._sound[self._position : self._position + 320]
        if not piece.size:
            raise DeviceError("paced was lost")
        self._position += 320
        late_ns = self._position % 7 * 2 * NS_PER_MS
        MonotonicClock().sleep_until_ns(self._start_ns + self._position * NS_PER_S // 16_000 + late_ns)
        return piece, time.monotonic_ns()

    def close(self) -> None:
        pass


def test_a_live_voice_is_processed_without_a_gap_until_its_microphone_fails(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    events: list[EmotionEvent] = []

    def record(event: EmotionEvent) -> None:
        check_event(to_document(event))
        events.append(event)

    stream = Stream(pipeline, None, PacedMicrophone(1.3), MonotonicClock(), lambda _: None)
    drive(stream, record, seconds=3.2, tick_ns=100 * NS_PER_MS)
    states = [(event.state, event.devices["microphone"], event.modalities) for event in events]
    assert states[5] == ("no_speech", "ok", ())
    assert ("ok", "ok", ("speech",)) in states
    assert states[-1] == ("no_signal", "lost", ())
    assert all(0 <= event.latency_ms < 1600 for event in events if event.modalities)
    assert pipeline.counters.samples_heard == round(1.3 * 16_000)
    assert pipeline.counters.sound_gaps == 0
    assert pipeline.counters.windows_read == 1


def test_a_camera_is_frozen_while_its_frames_are_equal_for_too_long():
    health, second_ns = DeviceHealth("camera", frozen_after_ns=3 * NS_PER_S), NS_PER_S
    states = []
    for time_s, is_same in enumerate([False, True, True, True, True, False, True, True, True]):
        health.last_ns = time_s * second_ns
        health.accept(time_s * second_ns, is_same=is_same)
        states.append(health.state(time_s * second_ns))
    assert states == ["ok", "ok", "ok", "frozen", "frozen", "ok", "ok", "ok", "frozen"]
    assert health.state(8 * second_ns + LOST_AFTER_NS + 1) == "lost"
    health.muted = True
    assert health.state(8 * second_ns) == "muted"
    health = DeviceHealth("camera", 0)
    health.accept(0, is_same=False)
    health.accept(9 * second_ns, is_same=True)
    assert not health.is_frozen  # never, without a limit


def test_a_camera_is_rejected_after_a_second_of_damaged_frames_only():
    health = DeviceHealth("camera", 0, intact_ns=0)
    for time_ms in range(0, 3000, 100):
        if time_ms % 900 == 0:
            health.accept(time_ms * NS_PER_MS, is_same=False)
        else:
            health.note_damaged(time_ms * NS_PER_MS, "damaged")
        assert health.rejected is None
    health.note_damaged(2701 * NS_PER_MS + LOST_AFTER_NS, "damaged")
    assert (health.rejected, health.state(0)) == ("damaged", "lost")
    health.rejected = None  # reopened: no second of trust until an intact frame arrives
    health.note_damaged(4000 * NS_PER_MS, "damaged")
    assert health.rejected == "damaged"


@pytest.mark.parametrize(("age_ms", "state"), [(None, "lost"), (0, "ok"), (999, "ok"), (1001, "lost")])
def test_device_state_depends_on_the_age_of_the_last_datum(age_ms: int | None, state: str):
    now_ns = 10 * NS_PER_S
    health = DeviceHealth("camera", None if age_ms is None else now_ns - age_ms * NS_PER_MS)
    assert health.state(now_ns) == state
