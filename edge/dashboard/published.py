"""An event in the form that the page sends: one line of JSON, and the values that the timeline needs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from moodring.labels import LABELS
from moodring.publish.base import Event
from moodring.publish.cloudevents import to_json
from moodring.types import StatusEvent


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """A published event. `text` is its JSON; the other fields are None for a status event.

    `time_ms` is in milliseconds since 1970; `per_mille` holds the probabilities in the order of `labels`, None if there is no
    label.
    """

    source: str
    text: str
    time_ms: int | None = None
    per_mille: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None

    @classmethod
    def from_event(cls, event: Event) -> PublishedEvent:
        """Convert an emotion event or a status event."""
        if isinstance(event, StatusEvent):
            return cls(event.source, to_json(event))
        return from_probabilities(event.source, to_json(event), to_epoch_ms(event.time_utc), event.probabilities)


def from_probabilities(source: str, text: str, time_ms: int, probabilities: Mapping[str, float] | None) -> PublishedEvent:
    """Return an emotion event. `text` is its JSON."""
    if probabilities is None:
        return PublishedEvent(source, text, time_ms)
    labels = displayed_labels(probabilities)
    return PublishedEvent(source, text, time_ms, tuple(per_mille(probabilities.get(label, 0.0)) for label in labels), labels)


def displayed_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the labels to show for events with these labels: all of moodring's, or those of a custom bundle."""
    found = tuple(labels)
    return LABELS if set(found) <= set(LABELS) else found


def per_mille(probability: float) -> int:
    """Return a probability rounded to 1/1000."""
    return round(1000 * probability)


def to_epoch_ms(time_utc: str) -> int:
    """Return an ISO 8601 time in milliseconds since 1970. Raises ValueError if it has no time zone."""
    moment = dt.datetime.fromisoformat(time_utc)
    if moment.tzinfo is None:
        raise ValueError(f"{time_utc} has no time zone")
    return int(moment.timestamp() * 1000)
