"""The interface of a sink, its errors, the content of the live page, and facts that several sinks share."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from moodring.errors import PublishError
from moodring.types import DeviceState, EmotionEvent, StatusEvent

Event = EmotionEvent | StatusEvent

DEVICE_STATES: tuple[DeviceState, ...] = typing.get_args(DeviceState)
# Units of configuration values
BYTES_PER_MB = 1_000_000
S_PER_H = 3600.0


class Publisher(Protocol):
    """A sink. It ignores the event types that it does not need."""

    def publish(self, event: Event) -> None:
        """Deliver one event. Raises PublishError if the delivery fails."""

    def close(self) -> None:
        """Release the sink. May be called twice."""


class ReaderGoneError(PublishError):
    """The reader closed standard output, as `head` does. The run ends with exit code 0."""

    exit_code = 0


class MuteControl(Protocol):
    """A run with devices that can be muted: "camera" and "microphone"."""

    def mute(self, device: str, muted: bool) -> bool:
        """Mute or unmute a device. Return whether the run has this device."""


@dataclass(frozen=True, slots=True)
class PageContent:
    """What the live page shows.

    `mode` is live, recording or events. `level_dbfs` returns the current sound level. `mutes` and `previews` are keyed by the
    stream name HOST/STREAM; a preview returns the newest camera image as JPEG, or None.
    """

    mode: str
    title: str
    level_dbfs: Callable[[], float] | None = None
    mutes: Mapping[str, MuteControl] = field(default_factory=dict)
    previews: Mapping[str, Callable[[], bytes | None]] = field(default_factory=dict)
