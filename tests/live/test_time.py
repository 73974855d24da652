"""Video and sound of one moment have the same time, and jumps of the wall clock have no effect."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from moodring.capture import microphone as microphones
from moodring.capture.base import CapturedFrame
from moodring.capture.microphone import Microphone
from moodring.capture.network import NetworkCamera
from moodring.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from moodring.run.stream import Stream
from moodring.types import AudioBlock, VideoFrame
from tests.support.devices.microphone import SKIP_REASON, SoftwareMicrophone, is_available
from tests.support.devices.mjpeg import JpegCamera, SoftwareCamera
from tests.support.signals import face_frame
from tests.support.watched import monitored_run

pytestmark = [pytest.mark.live, pytest.mark.skipif(not is_available(), reason=SKIP_REASON)]

CLAPS = 5
ALIGNED_MS = 40


class Clapper:
    """A pipeline that records the times of a flash and of a click."""

    def __init__(self) -> None:
        self.flashes: list[int] = []
        self.clicks: list[int] = []
        self._was_bright = False
        self._quiet_until_ns = 0
        self.heard = threading.Event()

    def is_face_due(self, _: int) -> bool:
        return True

    def decode(self, captured: CapturedFrame) -> VideoFrame | None:
        return captured.decode_frame()

    def process_frame(self, frame: VideoFrame) -> None:
        bright = bool(frame.grey.mean() > 128)
        if bright and not self._was_bright:
            self.flashes.append(frame.capture_time_ns)
        self._was_bright = bright

    def search_new_faces(self, _: VideoFrame) -> None: ...

    def samples_to_next_batch(self) -> int:
        return 1

    def process_audio(self, block: AudioBlock) -> None:
        self.heard.set()
        loud = np.flatnonzero(np.abs(block.samples) > 0.5)
        if loud.size and block.capture_time_ns > self._quiet_until_ns:
            self.clicks.append(block.capture_time_ns + int(loud[0]) * NS_PER_S // block.rate_hz)
            self._quiet_until_ns = block.end_time_ns + 200 * NS_PER_MS

    def tick(self, *_: object) -> None: ...

    reset_video = reset_audio = reset_smoothing = tick


def _clap(camera: JpegCamera, microphone: SoftwareMicrophone, dark: bytes, white: bytes) -> tuple[int, int]:
    """Flash and click; return the times at which the camera sent the flash and the microphone received the click."""
    clicked_ns = microphone.play_click()
    camera.send([white])
    flashed_ns = camera.wait_until_sent(white)
    time.sleep(0.1)
    camera.send([dark])
    camera.wait_until_sent(dark)
    return flashed_ns, clicked_ns


@pytest.mark.parametrize("held_up_s", [0.0, 0.155])
def test_a_clap_has_one_time_in_video_and_sound(
    held_up_s: float, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    """Also where a busy processor delayed the audio thread before, and sound accumulated in the buffer."""
    held_up = itertools.chain(itertools.repeat(held_up_s, 5), itertools.repeat(0.0))
    read = microphones._CaptureThread._read_block
    monkeypatch.setattr(microphones._CaptureThread, "_read_block", lambda *about: time.sleep(next(held_up)) or read(*about))
    dark, white = (cv2.imencode(".jpg", np.full((240, 320), level, np.uint8))[1].tobytes() for level in (0, 255))
    clapper = Clapper()
    with SoftwareMicrophone(tmp_path_factory.mktemp("pulse")) as microphone, JpegCamera([dark]) as camera:
        for key, value in microphone.environment.items():
            monkeypatch.setenv(key, value)
        stream = Stream(clapper, NetworkCamera(camera.url), Microphone(), MonotonicClock(), lambda _: None)
        stream.start()
        try:
            assert clapper.heard.wait(10)
            true = []
            for _ in range(CLAPS):
                time.sleep(0.4)
                true.append(_clap(camera, microphone, dark, white))
            deadline = time.monotonic() + 10
            while min(len(clapper.flashes), len(clapper.clicks)) < CLAPS:
                assert time.monotonic() < deadline, (clapper.flashes, clapper.clicks)
                time.sleep(0.02)
        finally:
            stream.stop()
            stream.join(time.monotonic() + 5)
    apart_ms = [
        ((flash - flashed) - (click - clicked)) / NS_PER_MS
        for flash, click, (flashed, clicked) in zip(clapper.flashes, clapper.clicks, true, strict=True)
    ]
    assert abs(statistics.median(apart_ms)) < ALIGNED_MS, apart_ms


def test_a_jump_of_the_wall_clock_changes_nothing(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """The functions that read the clock are replaced: a test must not set the clock of the machine."""
    jumped_s = 0
    real_s, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real_s() + jumped_s)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + jumped_s * NS_PER_S)
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, NetworkCamera(camera.url)) as run:
        run.wait_for(lambda e: e.modalities == ("face",), 10)
        begun = time.monotonic()
        for jumped_s in (3600, -3600, 0):  # noqa: B007  the closures above read it
            for _ in range(5):
                run.wait_for(lambda e: e.modalities == ("face",) and e.face.age_ms < 500, 10)
        after: list[Any] = [event for _, event in run.events_since(begun)]
    times = [event.time_utc for event in after]
    assert times == sorted(times)
    assert max(age for event in after if event.face for age in [event.face.age_ms]) <= 500
