"""The structure of a JPEG: where it ends, and its height. Nothing is decoded.

A segment before the image data can hold a thumbnail, a whole JPEG with markers of its own. The lengths of the segments lead
past it. Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re

from moodring.types import U8

SOI, EOI = b"\xff\xd8", b"\xff\xd9"  # start and end of image
PADDING = b"\r\n\0"  # some cameras add it to the end
SOI_CODE, EOI_CODE, SOS_CODE, FILL = 0xD8, 0xD9, 0xDA, 0xFF
SOI_OR_EOI = re.compile(rb"\xff[\xd8\xd9]")  # within image data, FF is followed by 00 or by a restart marker
MAX_PIXELS = 50_000_000  # 8K has 33 million. Some kB of a progressive JPEG can take minutes and gigabytes to decode
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


class DamagedJpegError(ValueError):
    """The bytes are not a JPEG, or a part of it is missing."""


class JpegEnd:
    """Finds the end of a JPEG of up to `max_bytes` that arrives in blocks. Any split into blocks gives the same end."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._at = 0  # of the next byte to read
        self.header_bytes: int | None = None  # the length of all that stands before the image data, once it is known

    def find(self, data: bytearray) -> int | None:
        """Return the length of the JPEG at the start of `data`, or None if its end is not in the first `max_bytes` of it.

        `data` must start with the data of the call before. Raises DamagedJpegError if it is not a whole JPEG.
        """
        if not data.startswith(SOI[: len(data)]):
            raise DamagedJpegError
        size = min(len(data), self._max_bytes)
        self._at = max(self._at, len(SOI))
        while self.header_bytes is None:
            if self._at + 4 > size:
                return None
            self._skip_segment(data)
        found = SOI_OR_EOI.search(data, self._at, size)
        if found is None:
            self._at = max(self._at, size - 1)  # the first byte of a marker may be the last one here
            return None
        if found[0] == SOI:
            raise DamagedJpegError
        return found.end()

    def _skip_segment(self, data: bytearray) -> None:
        """Skip one marker and, if it has one, its segment."""
        marker, code = data[self._at], data[self._at + 1]
        if marker != FILL or code in (0, SOI_CODE, EOI_CODE):
            raise DamagedJpegError
        if code == FILL:
            self._at += 1
        elif code in WITHOUT_LENGTH:
            self._at += 2
        else:
            length = int.from_bytes(data[self._at + 2 : self._at + 4], "big")
            if length < 2:  # it includes its own two bytes
                raise DamagedJpegError
            self._at += 2 + length
            self.header_bytes = self._at if code == SOS_CODE else None


def is_complete_jpeg(data: bytes) -> bool:
    """Return whether the bytes start and end as a JPEG does. Padding at the end is allowed."""
    return data.startswith(SOI) and (data.endswith(EOI) or data.rstrip(PADDING).endswith(EOI))


def jpeg_height(data: U8) -> int | None:
    """Return the number of rows that the frame header of a JPEG, uint8 [N], states.

    Return None if there is no such header, or if it states more than `MAX_PIXELS`: it is damaged or hostile.
    """
    at = 2
    while at + 9 <= data.size and data[at] == FILL:
        code, length = int(data[at + 1]), int(data[at + 2]) << 8 | int(data[at + 3])
        if code in FRAME_HEADERS:
            height, width = (int(data[at + i]) << 8 | int(data[at + i + 1]) for i in (5, 7))
            return height if 0 < height * width <= MAX_PIXELS else None
        at += 1 if code == FILL else 2 if code in WITHOUT_LENGTH else 2 + length
    return None
