"""Where pictures and sound come from. Recordings are iterated; live devices are read until they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from moodring.types import F32, U8, AudioBlock, VideoFrame


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A captured picture that nobody has looked at yet: of those that come faster than they are wanted, none is decoded."""

    data: Any
    capture_time_ns: int
    seq: int
    decode: Callable[[Any], tuple[U8, int] | None]

    def decode_frame(self) -> VideoFrame | None:
        """Return the frame, or None where the picture is damaged."""
        found = self.decode(self.data)
        return None if found is None else VideoFrame(found[0], self.capture_time_ns, self.seq, found[1])


class VideoSource(Protocol):
    """A recording's pictures in time order."""

    def __iter__(self) -> Iterator[VideoFrame]: ...

    def close(self) -> None: ...


class AudioSource(Protocol):
    """A recording's sound in time order."""

    def __iter__(self) -> Iterator[AudioBlock]: ...

    def close(self) -> None: ...


class LiveVideoSource(Protocol):
    """A camera. Raises DeviceError from `open` and `read`; after that it is closed and opened again."""

    name: str

    def open(self) -> None: ...

    def read(self) -> VideoFrame | CapturedFrame: ...

    def close(self) -> None: ...


class LiveAudioSource(Protocol):
    """A microphone: `read` blocks for the next float32 [N] samples and says when the last of them was captured.

    `blocks_lost` counts since the start what was recorded, or should have been, and could not be read in time.
    """

    name: str

    @property
    def blocks_dropped(self) -> int: ...

    def open(self) -> None: ...

    def read(self) -> tuple[F32, int]: ...

    def close(self) -> None: ...
