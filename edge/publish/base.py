"""Where events go."""

from __future__ import annotations

from typing import Literal, Protocol

from moodring.types import EmotionEvent, StatusEvent

Event = EmotionEvent | StatusEvent
MqttVersion = Literal["mqtt5", "mqtt311"]


class Publisher(Protocol):
    """A sink. `publish` raises PublishError where an event cannot be delivered; a sink ignores kinds it has no use for."""

    def publish(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Mutes(Protocol):
    """A run whose "camera" and "microphone" may be muted."""

    def mute(self, device: str, muted: bool) -> bool:
        """Mute a device or take it in again; return whether there is such a device."""
