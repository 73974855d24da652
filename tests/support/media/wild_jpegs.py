"""JPEGs and multipart streams as real cameras send them, in all their deviations from the standards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import cv2

from tests.support.signals import face_frame

BOUNDARY = b"cut"
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"


@functools.cache
def jpeg(index: int, width: int = 320, height: int = 240, *, progressive: bool = False) -> bytes:
    """Return a frame of a moving face."""
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_RST_INTERVAL, 0 if progressive else 4]
    return bytes(cv2.imencode(".jpg", face_frame(index, width, height), options)[1])


def segment(code: int, content: bytes) -> bytes:
    """Return one segment of a JPEG."""
    return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2, "big") + content


def with_thumbnail(data: bytes) -> bytes:
    """Return a JPEG that contains another one in its EXIF data, and 130 kB of other metadata before its frame header."""
    thumbnail = segment(0xE1, EXIF + jpeg(0, 80, 60))
    return data[:2] + thumbnail + 2 * segment(0xEC, b"\xff\xd9\r\n" * 16_000) + b"\xff\xff" + data[2:]


def with_size(data: bytes, height: int, width: int) -> bytes:
    """Return a JPEG whose frame header states another size."""
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


def truncated(data: bytes) -> bytes:
    """Return the first half of a JPEG."""
    return data[: len(data) // 2]


def part(data: bytes, length: int | bytes | None, *, boundary: bytes = b"--" + BOUNDARY, end: bytes = b"\r\n") -> bytes:
    """Return one part of a multipart stream that announces a length; None announces none."""
    fields = [boundary, b"Content-Type: image/jpeg"]
    if length is not None:
        fields.append(b"Content-Length: " + (length if isinstance(length, bytes) else b"%d" % length))
    return end.join([*fields, b"", data, b""])


def _each(make: Callable[[bytes], bytes]) -> Callable[[Sequence[bytes]], bytes]:
    return lambda frames: b"".join(map(make, frames))


def _mixed(frames: Sequence[bytes]) -> bytes:
    """Return parts of text and sound between the frames."""
    text = b"--cut\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nidle\r\n"
    sound = b"--cut\r\nContent-Type: audio/basic\r\n\r\n\xff\xd8\xff\xe0\0\x10 sound \xff\xd9\r\n"
    empty = b"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: 0\r\n\r\n\r\n"
    return b"".join(text + sound + empty + part(frame, len(frame)) for frame in frames)


# Bodies of responses whose frames are all intact, by what is unusual about them.
STREAMS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "nothing": _each(lambda data: part(data, len(data))),
    "no length": _each(lambda data: part(data, None)),
    "fill bytes after the end": _each(lambda data: part(data + b"\xff" * 32, len(data) + 32)),
    "fill bytes after the end, no length": _each(lambda data: part(data + b"\xff" * 32, None)),
    "text after the end": _each(lambda data: part(data + b"frame 1\r\n\r\n", len(data) + 11)),
    "a second image after the end": _each(lambda data: part(data + jpeg(0, 80, 60), None)),
    "zeros after the end": _each(lambda data: part(data + bytes(3000), len(data) + 3000)),
    "length too short": _each(lambda data: part(data, len(data) - 100)),
    "length of one byte": _each(lambda data: part(data, 1)),
    "length too long": _each(lambda data: part(data, len(data) + 100)),
    "length far too long": _each(lambda data: part(data, 10_000_000)),
    "length zero": _each(lambda data: part(data, 0)),
    "length of twenty digits": _each(lambda data: part(data, b"9" * 20)),
    "length negative": _each(lambda data: part(data, -1)),
    "length in words": _each(lambda data: part(data, b"many")),
    "lines end in LF": _each(lambda data: part(data, len(data), end=b"\n")),
    "lines end in LF, no length": _each(lambda data: part(data, None, end=b"\n")),
    "another boundary than declared": _each(lambda data: part(data, len(data), boundary=b"--other")),
    "another boundary than declared, no length": _each(lambda data: part(data, None, boundary=b"--other")),
    "boundary without dashes": _each(lambda data: part(data, len(data), boundary=BOUNDARY)),
    "boundary only before the second frame": lambda frames: frames[0] + b"\r\n" + STREAMS["nothing"](frames[1:]),
    "closing boundary after each frame": _each(lambda data: part(data, len(data)) + b"--cut--\r\n\r\n"),
    "empty lines before the frame": _each(lambda data: part(b"\r\n\r\n" + data, len(data))),
    "frames without parts": _each(lambda data: data),
    "frames without parts, with bytes between": _each(lambda data: data + b"\0" * 7),
    "parts of text and sound, and empty parts": _mixed,
    "lengths that lie in every third part": lambda frames: b"".join(
        part(data, len(data) - 50 if index % 3 == 2 else len(data)) for index, data in enumerate(frames)
    ),
    "lengths far too long in every third part": lambda frames: b"".join(
        part(data, 20_000_000 if index % 3 == 2 else len(data)) for index, data in enumerate(frames)
    ),
}
