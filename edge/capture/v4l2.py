"""What Linux knows of a camera: the forms in which it gives pictures, and who has it open.

The structures are those of linux/videodev2.h, asked for by ioctl: no library is needed for three questions.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BUF_TYPE_VIDEO_CAPTURE, TYPE_DISCRETE = (
    1,
    1,
)  # V4L2_BUF_TYPE_VIDEO_CAPTURE; V4L2_FRMSIZE_TYPE_DISCRETE, V4L2_FRMIVAL_TYPE_DISCRETE
FMT_DESC = struct.Struct("=3I32s5I")  # index, type, flags, description, pixel format, mbus code, reserved
FRAME_SIZE_ENUM = struct.Struct("=3I6I2I")  # index, pixel format, kind, size or smallest, largest and step of it, reserved
FRAME_INTERVAL_ENUM = struct.Struct("=5I6I2I")  # index, pixel format, width, height, kind, fraction or three of them, reserved
MAX_ENUM_ENTRIES = 256  # answers to one question: a broken driver must not be asked for ever

Ioctl = Callable[[int, int, bytearray], object]


def _iowr(number: int, form: struct.Struct) -> int:
    """_IOWR('V', number, ...) of asm-generic/ioctl.h."""
    return 3 << 30 | form.size << 16 | ord("V") << 8 | number


VIDIOC_ENUM_FMT, VIDIOC_ENUM_FRAMESIZES, VIDIOC_ENUM_FRAMEINTERVALS = (
    _iowr(2, FMT_DESC),
    _iowr(74, FRAME_SIZE_ENUM),
    _iowr(75, FRAME_INTERVAL_ENUM),
)


@dataclass(frozen=True, slots=True)
class CaptureFormat:
    """One form a camera offers (MJPG, YUYV, ...), the largest size in it, and how many such pictures a second."""

    name: str
    width: int
    height: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{self.name} to {self.width}x{self.height} at {self.rate_hz:g} a second"


def capture_formats(node: Path, ioctl: Ioctl | None = None) -> list[CaptureFormat]:
    """Return the forms of a V4L2 camera; raise OSError where it cannot be opened or asked."""
    if ioctl is None:
        import fcntl  # noqa: PLC0415  not on Windows

        ioctl = fcntl.ioctl
    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    try:
        return [form for pixels in _pixel_formats(fd, ioctl) if (form := _largest_size(fd, ioctl, pixels)) is not None]
    finally:
        os.close(fd)


def _pixel_formats(fd: int, ioctl: Ioctl) -> Iterator[int]:
    for entry in _enumerate(fd, ioctl, VIDIOC_ENUM_FMT, FMT_DESC, (BUF_TYPE_VIDEO_CAPTURE, 0, b"", 0, 0, 0, 0, 0)):
        yield entry[4]


def _largest_size(fd: int, ioctl: Ioctl, pixels: int) -> CaptureFormat | None:
    sizes = [
        (entry[3], entry[4]) if entry[2] == TYPE_DISCRETE else (entry[4], entry[7])
        for entry in _enumerate(fd, ioctl, VIDIOC_ENUM_FRAMESIZES, FRAME_SIZE_ENUM, (pixels, *[0] * 9))
    ]
    if not sizes:
        return None
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    intervals = _enumerate(fd, ioctl, VIDIOC_ENUM_FRAMEINTERVALS, FRAME_INTERVAL_ENUM, (pixels, width, height, *[0] * 9))
    rates = [denominator / numerator for _, _, _, _, _, numerator, denominator, *_ in intervals if numerator]
    name = struct.pack("=I", pixels).decode("ascii", "replace").strip()
    return CaptureFormat(name, width, height, round(max(rates, default=0.0), 2))


def _enumerate(
    fd: int, ioctl: Ioctl, request: int, form: struct.Struct, fields: tuple[int | bytes, ...]
) -> Iterator[tuple[int, ...]]:
    """Ask with a rising index until there are no more (EINVAL)."""
    with contextlib.suppress(OSError):
        for index in range(MAX_ENUM_ENTRIES):
            buffer = bytearray(form.pack(index, *fields))
            ioctl(fd, request, buffer)
            yield form.unpack(buffer)


def processes_using(node: Path, processes: Path = Path("/proc")) -> list[str]:
    """Name the other processes that have a device open, as far as this user may know."""
    found: list[str] = []
    real = os.path.realpath(node)
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):  # it ended, or is another user's
            if any(os.path.realpath(fd) == real for fd in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text(encoding='utf-8').strip()} (process {process.name})")
    return found
