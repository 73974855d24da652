"""The interface of a sink, and the content of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from moodring.types import EmotionEvent, StatusEvent

Event = EmotionEvent | StatusEvent


class Publisher(Protocol):
    """A sink. `publish` raises PublishError where an event cannot be delivered; a sink ignores kinds it has no use for."""

    def publish(self, event: Event) -> None: ...

    def close(self) -> None: ...


class MuteControl(Protocol):
    """A run whose "camera" and "microphone" may be muted."""

    def mute(self, device: str, muted: bool) -> bool:
        """Mute a device or take it in again; return whether there is such a device."""


@dataclass(frozen=True, slots=True)
class PageContent:
    """What a page shows: `mode` is live, recording or events; `mutes` and `previews` go by stream name (HOST/STREAM)."""

    mode: str
    title: str
    level_dbfs: Callable[[], float] | None = None
    mutes: Mapping[str, MuteControl] = field(default_factory=dict)
    previews: Mapping[str, Callable[[], bytes | None]] = field(default_factory=dict)
