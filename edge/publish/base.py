"""Where events go."""

from __future__ import annotations

from typing import Literal, Protocol

from edge.types import EmotionEvent, StatusEvent

Event = EmotionEvent | StatusEvent
MqttVersion = Literal["mqtt5", "mqtt311"]


class Publisher(Protocol):
    """A sink. `publish` raises PublishError where an event cannot be delivered; a sink ignores kinds it has no use for."""

    def publish(self, event: Event) -> None: ...

    def close(self) -> None: ...
