"""Cameras and microphones at an address: HTTP MJPEG by our own few lines, everything else (RTSP, UDP, SRT, HLS) through PyAV.

Of pictures that stand by themselves (JPEGs) only the bytes are taken; they are decoded when somebody wants to see them. A
stream whose pictures build on each other has to be decoded whole, but only the luma of those wanted is ever looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from moodring.capture.base import CapturedFrame
from moodring.capture.grey import decode_jpeg, downscale, luma_plane, reduction_factor
from moodring.capture.mjpeg import MjpegStream, NotMultipartError, jpeg_height
from moodring.errors import DeviceError
from moodring.types import F32, U8

if TYPE_CHECKING:
    import av

OPEN_TIMEOUT_S = 5.0  # a stream that builds on pictures sent once a second shows itself after two
READ_TIMEOUT_S = 1.5  # without a datum; a device is lost after a second
# No jitter buffer, no long look at the stream before it begins, and RTSP through the one connection that firewalls let pass.
LOW_LATENCY_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "1000000", "probesize": "500000"}
AUDIO_PROBE_OPTIONS = {"probesize": "32000"}  # sound alone comes slowly: a long look at it takes seconds
RTSP_OPTIONS = {"rtsp_transport": "tcp"}


class NetworkCamera:
    """Reads pictures, stamped on arrival, not yet decoded. One that failed must be closed and opened again to heal."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._mjpeg: MjpegStream | None = None
        self._container: Any = None
        self._iterator: Iterator[CapturedFrame] = iter(())
        self._seq = 0

    def open(self) -> None:
        """Connect; raise DeviceError where nobody answers, or with something else than video."""
        self.close()
        if self.name.lower().startswith("http://"):
            try:
                self._mjpeg = MjpegStream.connect(self.name, READ_TIMEOUT_S)
            except NotMultipartError:  # a password by digest, a redirect, another form of video
                self._mjpeg = None
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error) or "it does not answer"
                raise DeviceError(
                    f"camera {self.name} cannot be opened ({reason}): is the address right and the camera on?"
                ) from error
            except DeviceError as error:
                raise DeviceError(f"camera {self.name} {error}") from error
        if self._mjpeg is None:
            self._container = open_live_container(self.name, "camera", LOW_LATENCY_OPTIONS)
            self._iterator = self._demux_frames(self._container)

    def read(self) -> CapturedFrame:
        """Block for the next picture; raise DeviceError when the camera stops giving any."""
        if self._mjpeg is not None:
            try:
                data = self._mjpeg.read()
            except DeviceError as error:
                raise DeviceError(f"camera {self.name} {error}") from error
            return self._timestamped(data)
        if self._container is None:
            raise DeviceError(f"camera {self.name} is not open")
        encoded = next(self._iterator, None)
        if encoded is None:
            raise DeviceError(f"camera {self.name} gives no more frames")
        return encoded

    def _timestamped(self, data: U8 | av.VideoFrame) -> CapturedFrame:
        self._seq += 1
        return CapturedFrame(data, time.monotonic_ns(), self._seq - 1, decode)

    def _demux_frames(self, container: Any) -> Iterator[CapturedFrame]:
        import av.error  # noqa: PLC0415  see open_stream

        if not container.streams.video:
            raise DeviceError(f"camera {self.name} sends no picture")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        try:
            for packet in container.demux(stream):
                if stream.codec_context.name == "mjpeg":
                    if packet.size:
                        yield self._timestamped(np.frombuffer(bytes(packet), np.uint8))
                    continue
                for frame in packet.decode():
                    yield self._timestamped(frame)
        except (av.error.FFmpegError, OSError) as error:
            raise DeviceError(f"camera {self.name} gives no more frames ({_error_text(error)})") from error

    def close(self) -> None:
        if self._mjpeg is not None:
            self._mjpeg.close()
            self._mjpeg = None
        if self._container is not None:
            self._iterator = iter(())
            self._container.close()
            self._container = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NetworkMicrophone:
    """The sound of a stream at an address: mono float32 at 16 kHz, stamped on arrival."""

    def __init__(self, url: str, rate_hz: int = 16_000) -> None:
        self.name = url
        self.rate_hz = rate_hz
        self.blocks_dropped = 0  # what is late waits in the network, not here
        self._container: Any = None
        self._iterator: Iterator[F32] = iter(())

    def open(self) -> None:
        """Connect; raise DeviceError where nobody answers, or the stream has no sound."""
        self.close()
        self._container = open_live_container(self.name, "microphone", LOW_LATENCY_OPTIONS | AUDIO_PROBE_OPTIONS)
        self._iterator = self._blocks(self._container)

    def read(self) -> tuple[F32, int]:
        """Block for the next samples, float32 [N], and say when they had come; DeviceError when there are no more."""
        if self._container is None:
            raise DeviceError(f"microphone {self.name} is not open")
        samples = next(self._iterator, None)
        if samples is None:
            raise DeviceError(f"microphone {self.name} gives no more sound")
        return samples, time.monotonic_ns()

    def _blocks(self, container: Any) -> Iterator[F32]:
        import av.error  # noqa: PLC0415  see open_stream

        from moodring.capture.sound import Resampler  # noqa: PLC0415  the same

        if not container.streams.audio:
            raise DeviceError(f"microphone {self.name} sends no sound")
        resampler = Resampler(self.rate_hz)
        try:
            for packet in container.demux(container.streams.audio[0]):
                for frame in packet.decode():
                    samples = resampler.push(frame)
                    if samples.size:
                        yield samples
        except (av.error.FFmpegError, OSError) as error:
            raise DeviceError(f"microphone {self.name} gives no more sound ({_error_text(error)})") from error

    def close(self) -> None:
        if self._container is not None:
            self._iterator = iter(())
            self._container.close()
            self._container = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_live_container(url: str, device_kind: str, options: dict[str, str]) -> Any:
    """Open a live address; DeviceError where it cannot be. PyAV is imported only here: it is large, and most runs need none."""
    import av  # noqa: PLC0415
    import av.error  # noqa: PLC0415

    options |= RTSP_OPTIONS if url.lower().startswith(("rtsp://", "rtsps://")) else {}
    try:
        return av.open(url, options=options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DeviceError(
            f"{device_kind} {url} cannot be opened ({_error_text(error)}): is the address right and the camera on?"
        ) from error


def _error_text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def decode(encoded: U8 | av.VideoFrame) -> tuple[U8, int] | None:
    """Return a picture in grey, uint8 [H, W], and by how much it was shrunk; None where it is damaged."""
    if not isinstance(encoded, np.ndarray):
        grey = luma_plane(encoded)
        reduction = reduction_factor(len(grey))
        return downscale(grey, reduction), reduction
    height = jpeg_height(encoded)
    if height is None:
        return None
    reduction = reduction_factor(height)
    decoded = decode_jpeg(encoded, reduction)
    return None if decoded is None else (decoded, reduction)
