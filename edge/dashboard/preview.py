"""The camera's newest picture, for a page on this machine: kept in memory until the next one, and nowhere else."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

import cv2

from moodring.telemetry import Stages
from moodring.types import AudioBlock, DeviceState, EmotionEvent, VideoFrame

WIDEST = 320  # pixels
OLD_S = 1.0
JPEG_QUALITY = 70


class Preview:
    """Stands before a pipeline, remembers the newest frame and marks every event. `jpeg` may be called from any thread."""

    def __init__(self, pipeline: Stages) -> None:
        self._pipeline = pipeline
        self._newest: tuple[VideoFrame, float] | None = None
        self.is_face_due, self.sound_due = pipeline.is_face_due, pipeline.sound_due
        self.decode, self.explore = pipeline.decode, pipeline.explore
        self.forget_sight = pipeline.forget_sight
        self.forget_sound = pipeline.forget_sound
        self.forget_said = pipeline.forget_said

    def see(self, frame: VideoFrame) -> None:
        self._newest = (frame, time.monotonic())
        self._pipeline.see(frame)

    def hear(self, block: AudioBlock) -> None:
        self._pipeline.hear(block)

    def tick(self, now_ns: int, devices: Mapping[str, DeviceState], clock_ns: Callable[[], int] | None = None) -> EmotionEvent:
        if devices["camera"] != "ok":
            self._newest = None
        return dataclasses.replace(self._pipeline.tick(now_ns, devices, clock_ns), preview=True)

    def jpeg(self) -> bytes | None:
        """Return the newest picture, grey and small; None where there is none or it is old."""
        newest = self._newest
        if newest is None or time.monotonic() - newest[1] > OLD_S:
            return None
        grey = newest[0].grey
        by = min(1.0, WIDEST / grey.shape[1])
        small = cv2.resize(grey, None, fx=by, fy=by, interpolation=cv2.INTER_AREA)
        _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return bytes(encoded)
