"""Where events go."""

from __future__ import annotations

from typing import Protocol

from edge.types import EmotionEvent


class Publisher(Protocol):
    """A sink. `publish` raises PublishError where an event cannot be delivered."""

    def publish(self, event: EmotionEvent) -> None: ...

    def close(self) -> None: ...
