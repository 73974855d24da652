"""Where pictures and sound come from. Recordings are iterated; live devices are read until they fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edge.types import F32, AudioBlock, VideoFrame


class VideoSource(Protocol):
    """A recording's pictures in time order."""

    def __iter__(self) -> Iterator[VideoFrame]: ...

    def close(self) -> None: ...


class AudioSource(Protocol):
    """A recording's sound in time order."""

    def __iter__(self) -> Iterator[AudioBlock]: ...

    def close(self) -> None: ...


class LiveVideo(Protocol):
    """A camera. Raises DeviceError from `open` and `read`; after that it is closed and opened again."""

    name: str

    def open(self) -> None: ...

    def read(self) -> VideoFrame: ...

    def close(self) -> None: ...


class LiveAudio(Protocol):
    """A microphone: `read` blocks for the next float32 [N] samples and says when the last of them was captured.

    `blocks_lost` counts since the start what was recorded, or should have been, and could not be read in time.
    """

    name: str
    blocks_lost: int

    def open(self) -> None: ...

    def read(self) -> tuple[F32, int]: ...

    def close(self) -> None: ...
