"""A live camera: V4L2 index or path, or any address that OpenCV's FFmpeg opens (RTSP, HTTP MJPEG, UDP)."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from edge.capture.grey import decode_jpeg, reduction_for, shrink
from edge.errors import DeviceError
from edge.types import U8, VideoFrame

READ_TIMEOUT_MS = 3000


def camera_nodes(dev: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")) -> list[Path]:
    """Return the V4L2 nodes that give pictures, in the order of their numbers; a camera's further nodes give metadata."""
    nodes = sorted(dev.glob("video[0-9]*"), key=lambda node: int(node.name.removeprefix("video")))
    return [node for node in nodes if _index(classes / node.name / "index") == 0]


def _index(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def default_camera() -> str | None:
    """Return the first camera of this machine that may be opened, or None where there is none."""
    if sys.platform == "darwin":
        return "0"
    return next((str(node) for node in camera_nodes() if os.access(node, os.R_OK | os.W_OK)), None)


def _quiet() -> None:
    """OpenCV and its FFmpeg would print a line of their own for every failed attempt; what failed is said once, by us."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class Camera:
    """Reads grey frames, stamped on arrival. A camera that failed must be closed and opened again to heal."""

    def __init__(self, source: str) -> None:
        self.name = source
        self._capture: cv2.VideoCapture | None = None
        self._seq = 0
        self._gives_jpeg = False
        self._reduction = 1

    def open(self) -> None:
        """Open the device; raise DeviceError where it is absent, busy or not permitted."""
        self.close()
        _quiet()
        if self.name.startswith("/dev/") and not Path(self.name).exists():
            raise DeviceError(f"camera {self.name} is not there; plug it in or name another with --video")
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, READ_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        if "://" in self.name:
            capture = cv2.VideoCapture(self.name, cv2.CAP_FFMPEG, timeouts)
        else:
            capture = cv2.VideoCapture(int(self.name) if self.name.isdigit() else self.name)
        if not capture.isOpened():
            capture.release()
            raise DeviceError(
                f"camera {self.name} cannot be opened: is another program using it, and may this user read it (group video)?"
            )
        # A network camera that sends JPEGs hands them over undecoded: decoding to grey, and smaller, is ours.
        self._gives_jpeg = (
            "://" in self.name
            and int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") == b"MJPG"
            and capture.set(cv2.CAP_PROP_FORMAT, -1)
        )
        self._reduction = reduction_for(int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        self._capture = capture

    def read(self) -> VideoFrame:
        """Block for the next frame; raise DeviceError when the camera stops giving any."""
        if self._capture is None:
            raise DeviceError(f"camera {self.name} is not open")
        ok, image = self._capture.read()
        now_ns = time.monotonic_ns()
        if not ok or image is None:
            raise DeviceError(f"camera {self.name} gives no more frames")
        grey = self._grey(np.asarray(image, np.uint8))
        self._seq += 1
        return VideoFrame(grey, now_ns, self._seq - 1, self._reduction)

    def _grey(self, image: U8) -> U8:
        if self._gives_jpeg:
            grey = decode_jpeg(image.reshape(-1), self._reduction)
            if grey is None:
                raise DeviceError(f"camera {self.name} sent a damaged picture")
            return grey
        grey = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        self._reduction = reduction_for(grey.shape[0])
        return shrink(grey, self._reduction)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
