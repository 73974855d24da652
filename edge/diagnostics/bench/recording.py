"""A recording in the form in which devices deliver it: JPEG frames, and sound for blocks of 20 ms."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from moodring.capture.base import CapturedFrame
from moodring.capture.grey import decode_jpeg, reduction_factor
from moodring.capture.media import AudioFile, VideoFile, probe
from moodring.clock import NS_PER_S
from moodring.errors import MediaError
from moodring.types import F32, SAMPLE_RATE_HZ, U8

RATE_HZ = SAMPLE_RATE_HZ
BLOCK = 320  # samples
MAX_SECONDS = 20.0
JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Recording:
    """`jpegs`, uint8 [N] each, at `fps` frames a second and of `size` (width, height); `sound` float32 [N] at 16 kHz."""

    name: str
    jpegs: list[U8]
    fps: float
    size: tuple[int, int]
    sound: F32

    @property
    def reduction(self) -> int:
        """The factor by which frames of this size are scaled down when they are decoded."""
        return reduction_factor(self.size[1])

    def captured(self, index: int, time_ns: int) -> CapturedFrame:
        """Return a frame, undecoded, as a network camera delivers it."""
        return CapturedFrame(self.jpegs[index % len(self.jpegs)], time_ns, index, self._decoded)

    def _decoded(self, jpeg: U8) -> tuple[U8, int] | None:
        grey = decode_jpeg(jpeg, self.reduction)
        return None if grey is None else (grey, self.reduction)

    @property
    def seconds(self) -> float:
        """The duration of the video."""
        return len(self.jpegs) / self.fps


def load(source: str, size: tuple[int, int] | None = None, fps: float | None = None) -> Recording:
    """Read up to 20 s of a media file with video, and sound if it has any. `size` scales it, `fps` replaces its frame rate."""
    info = probe(source)
    if not info.has_video:
        raise MediaError(f"{source} has no video; the benchmark needs a file that shows a face")
    with VideoFile(source) as video:
        frames = []
        for frame in video:
            if frame.capture_time_ns > MAX_SECONDS * NS_PER_S:
                break
            grey = frame.grey if size is None else np.asarray(cv2.resize(frame.grey, size), np.uint8)
            bgr = cv2.cvtColor(np.ascontiguousarray(grey), cv2.COLOR_GRAY2BGR)
            jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            frames.append((frame.capture_time_ns, np.asarray(jpeg, np.uint8).reshape(-1), grey.shape))
    if len(frames) < 2:
        raise MediaError(f"{source} has fewer than two frames")
    sound = np.zeros(0, np.float32)
    if info.has_audio:
        with AudioFile(source) as audio:
            sound = np.concatenate([block.samples for block in audio])[: int(MAX_SECONDS * RATE_HZ)]
    own_fps = (len(frames) - 1) * NS_PER_S / (frames[-1][0] - frames[0][0])
    height, width = frames[0][2]
    return Recording(source, [jpeg for _, jpeg, _ in frames], fps or own_fps, (width, height), sound)
