"""A recorded event file: its lines, checked, with the time that each was published at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodring.dashboard.feed import PublishedEvent, per_mille, to_epoch_ms
from moodring.errors import EventError, UsageError
from moodring.publish.jsonl import LINE_PREFIX
from moodring.types import EMOTION_V1, STATUS_V1, EmotionEvent


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event of a file: the document, and its line as it stands there."""

    document: dict[str, Any]
    text: str
    time_ms: int

    @property
    def is_status(self) -> bool:
        return bool(self.document["type"] == STATUS_V1)

    @property
    def published(self) -> PublishedEvent:
        source = self.document["source"]
        if self.is_status:
            return PublishedEvent(source, self.text)
        return PublishedEvent(source, self.text, self.time_ms, per_mille(self.document["data"]["probabilities"]))


def read_events(path: Path) -> Iterator[RecordedEvent]:
    """Yield a file's events in their order. A last line that a killed process left half written is passed over.

    Raises UsageError where the file cannot be read, EventError (with the line's number) for a line that is no event of ours.
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
        raise EventError(f"{path} is no file of events: it is not UTF-8") from error


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
        raise EventError(f"{where}: this is no event of moodring: {error!r}") from error


def _validate(document: dict[str, Any], line: str) -> None:
    """Raise where a document lacks what the page and the report read of it."""
    if document["type"] == STATUS_V1:
        for name in ("counters", "dropped", "device_changes", "latency", "devices"):
            document["data"][name]
    elif document["type"] == EMOTION_V1:
        EmotionEvent.from_json(line)
    else:
        raise EventError(f"this is no event of moodring but {document['type']!r}")
    if not document["source"].startswith("/moodring/"):
        raise EventError(f"{document['source']!r} is no source of moodring")
