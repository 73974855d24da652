"""An event in the form that the page sends: one line of JSON, and the values that the timeline needs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from moodring.labels import LABELS
from moodring.publish.base import Event
from moodring.publish.cloudevents import to_json
from moodring.types import StatusEvent


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """A published event. `text` is its JSON; the other fields are None for a status event.

    `time_ms` is in milliseconds since 1970; `per_mille` holds the probabilities in label order, None if there is no label.
    """

    source: str
    text: str
    time_ms: int | None = None
    per_mille: tuple[int, ...] | None = None

    @classmethod
    def from_event(cls, event: Event) -> PublishedEvent:
        """Convert an emotion event or a status event."""
        if isinstance(event, StatusEvent):
            return cls(event.source, to_json(event))
        return cls(event.source, to_json(event), to_epoch_ms(event.time_utc), per_mille(event.probabilities))


def to_epoch_ms(time_utc: str) -> int:
    """Return an ISO 8601 time in milliseconds since 1970."""
    return int(dt.datetime.fromisoformat(time_utc).timestamp() * 1000)


def per_mille(probabilities: Mapping[str, float] | None) -> tuple[int, ...] | None:
    """Return probabilities in label order, rounded to 1/1000; a missing label is 0."""
    if probabilities is None:
        return None
    return tuple(round(1000 * probabilities.get(label, 0.0)) for label in LABELS)
