"""Reader of recorded event files: returns each event with its time of publication, and skips what is not an event.

A power cut leaves null bytes, a full disk or a crash an incomplete line, an editor a byte order mark, and standard error in the
same file lines of text. Each of these is skipped and named; every whole event is returned, also from a damaged line.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moodring.dashboard.published import PublishedEvent, from_probabilities, to_epoch_ms
from moodring.dashboard.validation import check_document
from moodring.errors import UsageError
from moodring.publish.jsonl import LINE_PREFIX
from moodring.types import EMOTION_V1, STATUS_V1

MAX_LINE_CHARS = 1_000_000
MAX_TIME_MS = 250_000_000_000_000  # in the year 9892; a later time cannot be printed
MAX_REPLAY_TIME_MS = 366 * 24 * 3600 * 1000  # a time before 1971 counts from the start of a replayed recording
MAX_NAMED_LINES = 3  # of each kind of damage
MAX_NAMED_KINDS = 12
EVENT_START = LINE_PREFIX.decode()
# Events that lack their newlines, and the null bytes between them
BOUNDARY = re.compile(r"\0+|(?=" + re.escape(EVENT_START) + ")")
NEWER_TYPE = re.compile(r"moodring\.\w{1,40}\.v\d{1,9}")
BYTE_ORDER_MARK = "\ufeff"
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BOM, NULLS, TOO_LONG, INCOMPLETE, NOT_UTF8, WRONG_FIELD, FOREIGN = (
    "byte order mark",
    "null bytes",
    "line of more than a million characters",
    "incomplete event",
    "text that is not UTF-8",
    "event with a missing or wrong field",
    "text that is not an event of moodring",
)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event of a file: the parsed document, the line of the file, and the time in milliseconds since 1970."""

    document: dict[str, Any]
    text: str
    time_ms: int

    @property
    def is_status(self) -> bool:
        """Whether this is a status event; otherwise it is an emotion event."""
        return bool(self.document["type"] == STATUS_V1)

    @property
    def published(self) -> PublishedEvent:
        """The event in the form that the page sends."""
        source = self.document["source"]
        if self.is_status:
            return PublishedEvent(source, self.text)
        return from_probabilities(source, self.text, self.time_ms, self.document["data"]["probabilities"])


@dataclass(slots=True)
class Skipped:
    """What was skipped in a file: for each kind of damage its count and the numbers of its first lines."""

    counts: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)

    def add(self, kind: str, line: int) -> None:
        """Count one part of a line. Beyond `MAX_NAMED_KINDS` kinds, count it as a text that is not an event."""
        if kind not in self.counts and len(self.counts) >= MAX_NAMED_KINDS:
            kind = FOREIGN
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(self.lines.setdefault(kind, [])) < MAX_NAMED_LINES:
            self.lines[kind].append(line)

    def __str__(self) -> str:
        """Return one sentence, or nothing if nothing was skipped."""
        parts = []
        for kind, count in self.counts.items():
            numbers = ", ".join(map(str, self.lines[kind])) + (", ..." if count > len(self.lines[kind]) else "")
            parts.append(f"{count} x {kind} (line{'s' if count > 1 else ''} {numbers})")
        total = sum(self.counts.values())
        return f"{total} damaged or foreign part{'s' if total > 1 else ''} skipped: {'; '.join(parts)}" if parts else ""


class _NoEventError(Exception):
    """A text is not an event that this version reads; the message is the kind of damage."""


def read_events(path: Path, skipped: Skipped | None = None) -> Iterator[RecordedEvent]:
    """Yield the events of a file in their order, and count in `skipped` what is not an event.

    Raises UsageError if the file cannot be read.
    """
    skipped = Skipped() if skipped is None else skipped
    try:
        with path.open("rb") as file:
            yield from _events(_decode(file, skipped), skipped)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _decode(file: io.BufferedReader, skipped: Skipped) -> io.TextIOWrapper:
    """Return the text of a file: UTF-8, or UTF-16 if it starts with its byte order mark, as PowerShell writes it."""
    is_utf16 = file.peek(2)[:2] in UTF_16_MARKS
    if is_utf16:
        skipped.add(BOM, 1)
    return io.TextIOWrapper(file, "utf-16" if is_utf16 else "utf-8", errors="replace" if is_utf16 else "surrogateescape")


def _events(file: io.TextIOWrapper, skipped: Skipped) -> Iterator[RecordedEvent]:
    for number, (line, is_long) in enumerate(_lines(file), start=1):
        if is_long:
            skipped.add(TOO_LONG, number)
        else:
            try:
                yield _parse(line)
                continue
            except _NoEventError:
                pass
        yield from _whole_events(line, number, skipped, is_counted=is_long)


def _lines(file: io.TextIOWrapper) -> Iterator[tuple[str, bool]]:
    """Yield each line that is not empty, and whether it exceeds `MAX_LINE_CHARS`; of such a line, its end."""
    while text := file.readline(MAX_LINE_CHARS):
        chunk, is_long = text, False
        while len(chunk) == MAX_LINE_CHARS and not chunk.endswith("\n"):
            chunk = file.readline(MAX_LINE_CHARS)
            is_long = is_long or bool(chunk)
            text = (text + chunk)[-MAX_LINE_CHARS:]
        yield text.rstrip("\r\n"), is_long


def _whole_events(line: str, number: int, skipped: Skipped, *, is_counted: bool) -> Iterator[RecordedEvent]:
    """Yield the whole events of a damaged line. `is_counted`: the damage of this line is counted already."""
    if BYTE_ORDER_MARK in line:
        skipped.add(BOM, number)
        line = line.replace(BYTE_ORDER_MARK, "")
    if "\0" in line and not is_counted:
        skipped.add(NULLS, number)
        is_counted = True
    for piece in BOUNDARY.split(line):
        if not piece.strip():
            continue
        try:
            yield _parse(piece)
        except _NoEventError as error:
            if not is_counted:
                skipped.add(str(error), number)


def _parse(text: str) -> RecordedEvent:
    """Return the event of a text. Raises _NoEventError with the kind of damage."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:  # bytes that are not UTF-8 were decoded to surrogates
            raise _NoEventError(NOT_UTF8) from error
    try:
        document = json.loads(text, parse_float=_finite, parse_constant=_finite)
        kind = document["type"]
    except (json.JSONDecodeError, RecursionError) as error:
        raise _NoEventError(INCOMPLETE if text.startswith(EVENT_START) else FOREIGN) from error
    except ValueError as error:  # a number
        raise _NoEventError(WRONG_FIELD if text.startswith(EVENT_START) else FOREIGN) from error
    except (KeyError, TypeError) as error:
        raise _NoEventError(FOREIGN) from error
    if kind not in (EMOTION_V1, STATUS_V1):
        is_newer = isinstance(kind, str) and NEWER_TYPE.fullmatch(kind)
        raise _NoEventError(f"event of another version, {kind}" if is_newer else FOREIGN)
    try:
        check_document(document)
        time_ms = to_epoch_ms(document["time"])
        if not 0 <= time_ms <= MAX_TIME_MS:
            raise _NoEventError(WRONG_FIELD)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _NoEventError(WRONG_FIELD) from error
    return RecordedEvent(document, text, time_ms)


def _finite(number: str) -> float:
    """Return a number of a document. Raises ValueError for NaN and infinity, which browsers reject."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not finite")
    return value
