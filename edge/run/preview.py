"""The newest camera frame as a small JPEG, for the page on this machine. It stays in memory until the next frame."""

from __future__ import annotations

import dataclasses
import time

import cv2

from moodring.types import EmotionEvent, VideoFrame

MAX_WIDTH = 320  # pixels
MAX_AGE_S = 1.0
JPEG_QUALITY = 70


class Preview:
    """`on_frame` is the frame callback of a pipeline; `mark` marks every event. `jpeg` may be called from any thread."""

    def __init__(self) -> None:
        self._newest: tuple[VideoFrame, float] | None = None

    def on_frame(self, frame: VideoFrame) -> None:
        """Keep the frame until the next one."""
        self._newest = (frame, time.monotonic())

    def mark(self, event: EmotionEvent) -> EmotionEvent:
        """Return the event with `preview` set. Drop the frame where the camera is muted, lost or frozen."""
        if event.devices["camera"] != "ok":
            self._newest = None
        return dataclasses.replace(event, preview=True)

    def jpeg(self) -> bytes | None:
        """Return the newest frame as a grey JPEG; None where there is none or it is older than `MAX_AGE_S`."""
        newest = self._newest
        if newest is None or time.monotonic() - newest[1] > MAX_AGE_S:
            return None
        grey = newest[0].grey
        scale = min(1.0, MAX_WIDTH / grey.shape[1])
        small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return bytes(encoded)
