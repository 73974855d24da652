"""Reader of recorded event files: checks every line and returns it with its time of publication."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodring.dashboard.published import PublishedEvent, per_mille, to_epoch_ms
from moodring.errors import EventError, UsageError
from moodring.publish.jsonl import LINE_PREFIX
from moodring.types import EMOTION_V1, STATUS_V1, EmotionEvent


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
        return PublishedEvent(source, self.text, self.time_ms, per_mille(self.document["data"]["probabilities"]))


def read_events(path: Path) -> Iterator[RecordedEvent]:
    """Yield the events of a file in their order. Skip an incomplete last line: a killed process can leave one.

    Raises UsageError if the file cannot be read, EventError with the line number for a line that is not a moodring event.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                line = text.rstrip("\r\n")
                if line and not (not text.endswith("\n") and _is_partial(line)):
                    yield _parse_line(line, f"{path}:{number}")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EventError(f"{path} is not an event file: it is not UTF-8 text") from error


def _is_partial(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return line.startswith(LINE_PREFIX.decode())
    return False


def _parse_line(line: str, where: str) -> RecordedEvent:
    try:
        document = json.loads(line)
        _validate(document, line)
        return RecordedEvent(document, line, to_epoch_ms(document["time"]))
    except EventError as error:
        raise EventError(f"{where}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise EventError(f"{where}: this line is not a moodring event: {error!r}") from error


def _validate(document: dict[str, Any], line: str) -> None:
    """Raise if a document lacks a field that the page or the report reads."""
    if document["type"] == STATUS_V1:
        for name in ("counters", "dropped", "device_changes", "latency", "devices"):
            document["data"][name]
    elif document["type"] == EMOTION_V1:
        EmotionEvent.from_json(line)
    else:
        raise EventError(f"unknown event type {document['type']!r}; moodring publishes {EMOTION_V1} and {STATUS_V1}")
    if not document["source"].startswith("/moodring/"):
        raise EventError(f"unknown event source {document['source']!r}; the source of moodring starts with /moodring/")
