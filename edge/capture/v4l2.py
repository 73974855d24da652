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

CAPTURE, DISCRETE = 1, 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE; V4L2_FRMSIZE_TYPE_DISCRETE, V4L2_FRMIVAL_TYPE_DISCRETE
FORMAT = struct.Struct("=3I32s5I")  # index, type, flags, description, pixel format, mbus code, reserved
SIZE = struct.Struct("=3I6I2I")  # index, pixel format, kind, size or smallest, largest and step of it, reserved
INTERVAL = struct.Struct("=5I6I2I")  # index, pixel format, width, height, kind, fraction or three of them, reserved
MOST = 256  # answers to one question: a broken driver must not be asked for ever

Ioctl = Callable[[int, int, bytearray], object]


def _request(number: int, form: struct.Struct) -> int:
    """_IOWR('V', number, ...) of asm-generic/ioctl.h."""
    return 3 << 30 | form.size << 16 | ord("V") << 8 | number


ENUM_FORMATS, ENUM_SIZES, ENUM_INTERVALS = _request(2, FORMAT), _request(74, SIZE), _request(75, INTERVAL)


@dataclass(frozen=True, slots=True)
class PictureForm:
    """One form a camera offers (MJPG, YUYV, ...), the largest size in it, and how many such pictures a second."""

    name: str
    width: int
    height: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{self.name} to {self.width}x{self.height} at {self.rate_hz:g} a second"


def picture_forms(node: Path, ioctl: Ioctl | None = None) -> list[PictureForm]:
    """Return the forms of a V4L2 camera; raise OSError where it cannot be opened or asked."""
    if ioctl is None:
        import fcntl  # noqa: PLC0415  not on Windows

        ioctl = fcntl.ioctl
    handle = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    try:
        return [form for pixels in _formats(handle, ioctl) if (form := _largest(handle, ioctl, pixels)) is not None]
    finally:
        os.close(handle)


def _formats(handle: int, ioctl: Ioctl) -> Iterator[int]:
    for answer in _answers(handle, ioctl, ENUM_FORMATS, FORMAT, (CAPTURE, 0, b"", 0, 0, 0, 0, 0)):
        yield answer[4]


def _largest(handle: int, ioctl: Ioctl, pixels: int) -> PictureForm | None:
    sizes = [
        (answer[3], answer[4]) if answer[2] == DISCRETE else (answer[4], answer[7])
        for answer in _answers(handle, ioctl, ENUM_SIZES, SIZE, (pixels, *[0] * 9))
    ]
    if not sizes:
        return None
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    intervals = _answers(handle, ioctl, ENUM_INTERVALS, INTERVAL, (pixels, width, height, *[0] * 9))
    rates = [denominator / numerator for _, _, _, _, _, numerator, denominator, *_ in intervals if numerator]
    name = struct.pack("=I", pixels).decode("ascii", "replace").strip()
    return PictureForm(name, width, height, round(max(rates, default=0.0), 2))


def _answers(
    handle: int, ioctl: Ioctl, request: int, form: struct.Struct, rest: tuple[int | bytes, ...]
) -> Iterator[tuple[int, ...]]:
    """Ask with a rising index until there are no more (EINVAL)."""
    with contextlib.suppress(OSError):
        for index in range(MOST):
            asked = bytearray(form.pack(index, *rest))
            ioctl(handle, request, asked)
            yield form.unpack(asked)


def holders(node: Path, processes: Path = Path("/proc")) -> list[str]:
    """Name the other processes that have a device open, as far as this user may know."""
    found: list[str] = []
    real = os.path.realpath(node)
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):  # it ended, or is another user's
            if any(os.path.realpath(handle) == real for handle in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text(encoding='utf-8').strip()} (process {process.name})")
    return found
