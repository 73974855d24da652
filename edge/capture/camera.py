"""Cameras: those of this machine (V4L2 index or path) through OpenCV, and those at an address."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from moodring.capture.base import LiveVideoSource
from moodring.capture.grey import downscale, reduction_factor
from moodring.capture.network import NetworkCamera
from moodring.capture.v4l2 import processes_using
from moodring.errors import DeviceError
from moodring.types import U8, VideoFrame

VIDEO_GROUP_HINT = "sudo usermod -aG video $USER, then log in again"


def camera_nodes(dev: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")) -> list[Path]:
    """Return the V4L2 nodes that give pictures, in the order of their numbers; a camera's further nodes give metadata."""
    nodes = sorted(dev.glob("video[0-9]*"), key=lambda node: int(node.name.removeprefix("video")))
    return [node for node in nodes if _read_index(classes / node.name / "index") == 0]


def _read_index(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def default_camera() -> str | None:
    """Return the first camera of this machine that may be opened, or None where there is none."""
    if sys.platform == "darwin":
        return "0"
    return next((str(node) for node in camera_nodes() if os.access(node, os.R_OK | os.W_OK)), None)


def open_camera(source: str) -> LiveVideoSource:
    """Return the camera that a configuration names; it is not opened yet."""
    return NetworkCamera(source) if "://" in source else Camera(source)


def _open_failure_reason(node: Path) -> str:
    """Say what keeps a camera that is there from being opened, as far as can be known."""
    if node.exists() and not os.access(node, os.R_OK | os.W_OK):
        return f"this user may not; {VIDEO_GROUP_HINT}"
    if others := processes_using(node):
        return f"in use by {', '.join(others)}"
    return "is another program using it, and is it a camera that gives pictures?"


class Camera:
    """Reads a camera of this machine: grey frames, stamped on arrival. One that failed must be opened again to heal."""

    def __init__(self, source: str) -> None:
        self.name = source
        self._capture: cv2.VideoCapture | None = None
        self._seq = 0

    def open(self) -> None:
        """Open the device; raise DeviceError where it is absent, busy or not permitted."""
        self.close()
        # It would print a line of its own for every failed attempt; what failed is said once, by us.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        node = Path(f"/dev/video{self.name}" if self.name.isdigit() else self.name)
        if (sys.platform == "linux" or not self.name.isdigit()) and not node.exists():
            raise DeviceError(f"camera {self.name} is not there; plug it in or name another with --video")
        api = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY  # else OpenCV tries its FFmpeg first
        capture = cv2.VideoCapture(int(self.name) if self.name.isdigit() else self.name, api)
        if not capture.isOpened():
            capture.release()
            raise DeviceError(f"camera {self.name} cannot be opened: {_open_failure_reason(node)}")
        self._capture = capture

    def read(self) -> VideoFrame:
        """Block for the next frame; raise DeviceError when the camera stops giving any."""
        if self._capture is None:
            raise DeviceError(f"camera {self.name} is not open")
        ok, image = self._capture.read()
        now_ns = time.monotonic_ns()
        if not ok or image is None:
            raise DeviceError(f"camera {self.name} gives no more frames")
        pixels = np.asarray(image, np.uint8)
        grey: U8 = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
        reduction = reduction_factor(len(grey))
        self._seq += 1
        return VideoFrame(downscale(grey, reduction), now_ns, self._seq - 1, reduction)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
