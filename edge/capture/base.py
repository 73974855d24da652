"""Interfaces of the capture sources. Recordings are iterated; live devices are read until they fail."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from moodring.errors import DeviceError
from moodring.types import F32, U8, AudioBlock, VideoFrame

NO_MORE_FRAMES = "stopped sending frames"
NO_MORE_SOUND = "stopped sending sound"


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A captured frame that is not decoded yet. Those above the face rate are dropped without being decoded.

    `data` is the bytes of a JPEG, uint8 [N], none if it arrived damaged, or a frame of a video decoder. `capture_time_ns` is
    the monotonic time of arrival. `decode` takes `data` and returns the grey frame, uint8 [H, W], and its reduction factor, or
    None if the data is damaged.
    """

    data: Any
    capture_time_ns: int
    seq: int
    decode: Callable[[Any], tuple[U8, int] | None]

    @property
    def is_empty(self) -> bool:
        """Whether the data arrived damaged."""
        return isinstance(self.data, np.ndarray) and not self.data.size

    def decode_frame(self) -> VideoFrame | None:
        """Return the decoded frame, or None if its data is damaged."""
        decoded = self.decode(self.data)
        return None if decoded is None else VideoFrame(decoded[0], self.capture_time_ns, self.seq, decoded[1])


class VideoSource(Protocol):
    """The frames of a recording in time order."""

    def __iter__(self) -> Iterator[VideoFrame]: ...

    def close(self) -> None: ...


class AudioSource(Protocol):
    """The sound of a recording in time order."""

    def __iter__(self) -> Iterator[AudioBlock]: ...

    def close(self) -> None: ...


class LiveVideoSource(Protocol):
    """A camera. `open` and `read` raise DeviceError; the caller then closes the camera and opens it again."""

    name: str

    def open(self) -> None: ...

    def read(self) -> VideoFrame | CapturedFrame: ...

    def close(self) -> None: ...


class LiveAudioSource(Protocol):
    """A microphone. `open` and `read` raise DeviceError; the caller then closes the microphone and opens it again.

    `read` blocks until samples arrive. It returns float32 [N] and the monotonic time in ns at which the last sample was
    captured. `blocks_dropped` counts the blocks that were lost before `read` returned them, since the object was created.
    """

    name: str

    @property
    def blocks_dropped(self) -> int: ...

    def open(self) -> None: ...

    def read(self) -> tuple[F32, int]: ...

    def close(self) -> None: ...


class LiveDevice(ABC):
    """Base of the cameras and microphones. A `with` block opens the device and closes it."""

    kind: ClassVar[str]
    name: str

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def error(self, what: str) -> DeviceError:
        """Return the error `KIND NAME WHAT`, for example `camera 0 is not open`."""
        return DeviceError(f"{self.kind} {self.name} {what}")

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def error_reason(error: Exception) -> str:
    """Return why a system call or a library failed: the text without an error number where the exception has one."""
    if not getattr(error, "strerror", None) and isinstance(error, ValueError):  # its text can quote the password
        return "the address is not valid: write / as %2F, # as %23, ? as %3F and @ as %40 in a user name or password"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
