"""Joined recordings: the parts of a file that FFmpeg reads up to the end of its first part only, such as WAV, FLV or MP4."""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from moodring.address import is_pipe, is_url

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # Matroska: the identifiers of its two outer elements
MATROSKA_BEGINNING = re.compile(re.escape(EBML) + rb".{1,60}?(?:matroska|webm)", re.DOTALL)
OGG_BEGINNING = re.compile(rb"OggS\x00\x02\x00{8}")  # of a track: the first page, at the position 0
# What a recording of each format begins with. Nothing shorter is sought in the middle of a file, where it could be a chance.
BEGINNINGS = (
    MATROSKA_BEGINNING,
    OGG_BEGINNING,
    re.compile(rb"RIFF....WAVEfmt |RIFF....AVI LIST|RF64....WAVEds64", re.DOTALL),
    re.compile(rb"FORM....AIF[FC](?:FVER|COMM)", re.DOTALL),
    re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09\x00\x00\x00\x00"),
    re.compile(rb"\x00\x00\x00[\x10-\x80]ftyp[\w ]{4}"),
    re.compile(rb"fLaC\x00\x00\x00\x22"),
)
HEADER_BYTES = 128
UNREAD_SHARE = 0.2  # of a file behind the last packet; an index at the end is smaller


class ReadTrack(Protocol):
    """A track of a file that was read: how far, in bytes, and how many tracks the file has."""

    source: str
    read_bytes: int
    file_tracks: int

    @property
    def name(self) -> str:
        """The source as it is printed."""


def next_part(source: str, position: int) -> int | None:
    """Return where the next recording of a file begins, at or behind `position`, in the format of the first; else None."""
    if is_url(source) or is_pipe(source):
        return None
    with Path(source).open("rb") as file:
        head = file.read(HEADER_BYTES)
        beginning = next((pattern for pattern in BEGINNINGS if pattern.match(head)), None)
        if beginning is None or position >= Path(source).stat().st_size:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = beginning.search(data, max(1, position))
            return found.start() if found else None


def part_end(source: str, start: int) -> int | None:
    """Return where the recording that begins at `start` ends and another one begins; None if no other one follows.

    That is for MP4, Ogg and Matroska, which FFmpeg mixes up: it looks for the fragments of all MP4 recordings in the first one,
    and decodes all Ogg and Matroska recordings with the parameters of the first one.
    """
    with Path(source).open("rb") as file:
        if not file.read(1):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            kind = data[start : start + 8]
            if kind[4:] == b"ftyp":
                return _mp4_end(data, start)
            if kind[:4] == b"OggS":
                return _ogg_end(data, start)
            return _matroska_end(data, start) if kind[:4] == EBML else None


def _ogg_end(data: mmap.mmap, position: int) -> int | None:
    while data[position : position + 4] == b"OggS" and position + 27 <= len(data) and data[position + 5] & 2:
        # the first pages of all its tracks
        segments = data[position + 26]
        position += 27 + segments + sum(data[position + 27 : position + 27 + segments])
    found = OGG_BEGINNING.search(data, position)
    return found.start() if found else None


def _mp4_end(data: mmap.mmap, start: int) -> int | None:
    position = start
    while position + 16 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if kind == b"ftyp" and position > start:
            return position
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8:  # the last box, or damaged
            return None
        position += length
    return None


def _matroska_end(data: mmap.mmap, start: int) -> int | None:
    """Return the end of a segment with a stated length, if another file begins there. A live recording states none."""
    position = start
    for element in (EBML, SEGMENT):
        if data[position : position + 4] != element or position + 12 > len(data):
            return None
        octets = 9 - data[position + 4].bit_length()
        length = int.from_bytes(data[position + 4 : position + 4 + octets], "big") & ~(1 << 7 * octets)
        position += 4 + octets + length
    return position if MATROSKA_BEGINNING.match(data, position) else None


def unread_notes(readers: Sequence[ReadTrack]) -> list[str]:
    """Return a note for a file of which a part lies behind the last packet of all its tracks."""
    source = readers[0].source
    if is_url(source) or is_pipe(source) or any(reader.source != source for reader in readers):
        return []
    size, read = Path(source).stat().st_size, max(reader.read_bytes for reader in readers)
    if not read or readers[0].file_tracks != len(readers) or size - read < UNREAD_SHARE * size:
        return []
    share, advice = f"{100 * (1 - read / size):.0f} %", "if recordings were joined, process them one by one"
    return [f"{readers[0].name}: the last {share} of the file belong to none of its tracks; {advice}"]
