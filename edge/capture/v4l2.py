"""Pixel formats of a Linux camera, and the processes that have it open.

The structures are those of linux/videodev2.h, passed to ioctl(2) directly. No V4L2 library is needed for three requests.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BUF_TYPE_VIDEO_CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
TYPE_DISCRETE = 1  # V4L2_FRMSIZE_TYPE_DISCRETE and V4L2_FRMIVAL_TYPE_DISCRETE
FMT_DESC = struct.Struct("=3I32s5I")  # index, type, flags, description, pixel format, mbus code, reserved
# index, pixel format, type, then width and height, or the minimum, maximum and step of both; reserved
FRAME_SIZE_ENUM = struct.Struct("=3I6I2I")
# index, pixel format, width, height, type, then one fraction, or the minimum, maximum and step; reserved
FRAME_INTERVAL_ENUM = struct.Struct("=5I6I2I")
MAX_ENUM_ENTRIES = 256  # of one enumeration: a faulty driver may never end it

Ioctl = Callable[[int, int, bytearray], object]


def _iowr(number: int, structure: struct.Struct) -> int:
    """Return the request code _IOWR('V', number, structure) of asm-generic/ioctl.h."""
    return 3 << 30 | structure.size << 16 | ord("V") << 8 | number


VIDIOC_ENUM_FMT = _iowr(2, FMT_DESC)
VIDIOC_ENUM_FRAMESIZES = _iowr(74, FRAME_SIZE_ENUM)
VIDIOC_ENUM_FRAMEINTERVALS = _iowr(75, FRAME_INTERVAL_ENUM)


@dataclass(frozen=True, slots=True)
class CaptureFormat:
    """A pixel format of a camera (MJPG, YUYV, ...), its largest frame size, and the highest frame rate at that size."""

    name: str
    width: int
    height: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{self.name} up to {self.width}x{self.height} at {self.rate_hz:g} frames/s"


def capture_formats(node: Path, ioctl: Ioctl | None = None) -> list[CaptureFormat]:
    """Return the formats of a V4L2 camera; none if the node is not a camera. Raises OSError if it cannot be opened."""
    if ioctl is None:
        import fcntl  # noqa: PLC0415  not on Windows

        ioctl = fcntl.ioctl
    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    try:
        found = [_largest_size(fd, ioctl, pixel_format) for pixel_format in _pixel_formats(fd, ioctl)]
        return [capture_format for capture_format in found if capture_format is not None]
    finally:
        os.close(fd)


def _pixel_formats(fd: int, ioctl: Ioctl) -> Iterator[int]:
    for entry in _enumerate(fd, ioctl, VIDIOC_ENUM_FMT, FMT_DESC, (BUF_TYPE_VIDEO_CAPTURE, 0, b"", 0, 0, 0, 0, 0)):
        yield entry[4]


def _largest_size(fd: int, ioctl: Ioctl, pixel_format: int) -> CaptureFormat | None:
    sizes = [
        (entry[3], entry[4]) if entry[2] == TYPE_DISCRETE else (entry[4], entry[7])
        for entry in _enumerate(fd, ioctl, VIDIOC_ENUM_FRAMESIZES, FRAME_SIZE_ENUM, (pixel_format, *[0] * 9))
    ]
    if not sizes:
        return None
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    fields = (pixel_format, width, height, *[0] * 9)
    intervals = _enumerate(fd, ioctl, VIDIOC_ENUM_FRAMEINTERVALS, FRAME_INTERVAL_ENUM, fields)
    rates = [denominator / numerator for _, _, _, _, _, numerator, denominator, *_ in intervals if numerator]
    name = struct.pack("=I", pixel_format).decode("ascii", "replace").strip()
    return CaptureFormat(name, width, height, round(max(rates, default=0.0), 2))


def _enumerate(
    fd: int, ioctl: Ioctl, request: int, structure: struct.Struct, fields: tuple[int | bytes, ...]
) -> Iterator[tuple[int, ...]]:
    """Repeat a request with an increasing index until the driver returns an error (EINVAL); yield the filled structures."""
    with contextlib.suppress(OSError):
        for index in range(MAX_ENUM_ENTRIES):
            buffer = bytearray(structure.pack(index, *fields))
            ioctl(fd, request, buffer)
            yield structure.unpack(buffer)


def processes_using(node: Path, processes: Path = Path("/proc")) -> list[str]:
    """Return `NAME (process PID)` of each other process that has a device open. Processes of other users may be missing."""
    found: list[str] = []
    device = os.path.realpath(node)
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            if any(os.path.realpath(fd) == device for fd in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text(encoding='utf-8').strip()} (process {process.name})")
    return found
