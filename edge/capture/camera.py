"""Cameras of this machine (V4L2 index or path) through OpenCV, and the choice between these and network cameras."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from moodring.address import file_mode, is_url
from moodring.capture.base import NO_MORE_FRAMES, LiveDevice, LiveVideoSource
from moodring.capture.grey import downscale_for_faces
from moodring.capture.http.snapshot import SnapshotCamera
from moodring.capture.network import NetworkCamera
from moodring.capture.v4l2 import processes_using
from moodring.types import U8, VideoFrame

VIDEO_GROUP_HINT = "sudo usermod -aG video $USER, then log in again"


def camera_nodes(dev: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")) -> list[Path]:
    """Return the V4L2 nodes that deliver frames, in numeric order. A camera's nodes for metadata are left out."""
    nodes = sorted(dev.glob("video[0-9]*"), key=lambda node: int(node.name.removeprefix("video")))
    return [node for node in nodes if _read_index(classes / node.name / "index") == 0]


def _read_index(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def default_camera() -> str | None:
    """Return the first camera of this machine that this user may open, or None if there is none."""
    if sys.platform == "darwin":
        return "0"
    return next((str(node) for node in camera_nodes() if os.access(node, os.R_OK | os.W_OK)), None)


def open_camera(source: str, *, snapshot_hz: float = 0.0, track: int | None = None) -> LiveVideoSource:
    """Return the camera that a source names: an index, a path or a URL. It is not open yet.

    `snapshot_hz` is the rate at which an HTTP address is requested that sends one image; 0 if it sends a stream. `track` is the
    video track of a URL.
    """
    if snapshot_hz and source.lower().startswith(("http://", "https://")):
        return SnapshotCamera(source, snapshot_hz)
    return NetworkCamera(source, track) if is_url(source) else Camera(source)


def _open_failure_reason(node: Path) -> str:
    """Return why a camera that exists cannot be opened, as far as it can be determined."""
    if file_mode(str(node)) and not os.access(node, os.R_OK | os.W_OK):
        return f"this user has no permission; run {VIDEO_GROUP_HINT}"
    if others := processes_using(node):
        return f"it is in use by {', '.join(others)}"
    return "check that no other program uses it, and that it is a camera that delivers frames"


class Camera(LiveDevice):
    """A camera of this machine. Delivers grey frames with the monotonic time of their arrival."""

    kind = "camera"

    def __init__(self, source: str) -> None:
        self.name = source
        self._capture: cv2.VideoCapture | None = None
        self._seq = 0

    def open(self) -> None:
        """Open the device. Raises DeviceError if it is absent, busy or not permitted."""
        self.close()
        # OpenCV prints a line for each failed attempt. The DeviceError already says what failed.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        node = Path(f"/dev/video{self.name}" if self.name.isdigit() else self.name)
        if (sys.platform == "linux" or not self.name.isdigit()) and not file_mode(str(node)):
            raise self.error("does not exist; plug it in or name another one with --video")
        api = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY  # with CAP_ANY, OpenCV tries FFmpeg first
        capture = cv2.VideoCapture(int(self.name) if self.name.isdigit() else self.name, api)
        if not capture.isOpened():
            capture.release()
            raise self.error(f"cannot be opened: {_open_failure_reason(node)}")
        self._capture = capture

    def read(self) -> VideoFrame:
        """Block until the next frame arrives and return it. Raises DeviceError if the camera delivers no more."""
        if self._capture is None:
            raise self.error("is not open")
        ok, image = self._capture.read()
        now_ns = time.monotonic_ns()
        if not ok or image is None:
            raise self.error(NO_MORE_FRAMES)
        pixels = np.asarray(image, np.uint8)
        grey: U8 = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
        small, reduction = downscale_for_faces(grey)
        self._seq += 1
        return VideoFrame(small, now_ns, self._seq - 1, reduction)

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
