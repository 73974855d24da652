"""Network cameras and microphones. HTTP MJPEG is read by `mjpeg`; RTSP, UDP, SRT, HLS and all else by PyAV.

JPEG frames are independent: only the bytes are read here, and a JPEG is decoded when it is processed. Frames of other codecs
depend on each other, so each one is decoded, but its luma plane is converted only when the frame is processed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from moodring.capture.base import NO_MORE_FRAMES, NO_MORE_SOUND, CapturedFrame, LiveDevice, error_reason
from moodring.capture.grey import decode_jpeg, downscale_for_faces, luma_plane, reduction_factor
from moodring.capture.jpeg import jpeg_height
from moodring.capture.mjpeg import SNAPSHOT_ADVICE, MjpegStream, NotMultipartError
from moodring.errors import DeviceError
from moodring.redaction import without_credentials
from moodring.types import F32, SAMPLE_RATE_HZ, U8

if TYPE_CHECKING:
    import av

OPEN_TIMEOUT_S = 5.0  # a stream with one key frame a second can be decoded after about two seconds
READ_TIMEOUT_S = 1.5  # without data; a stream reports its device as lost after one second
# No jitter buffer and a short probe of the stream for low latency. RTSP over TCP: firewalls often block UDP.
LOW_LATENCY_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "1000000", "probesize": "500000"}
AUDIO_PROBE_OPTIONS = {"probesize": "32000"}  # at the bit rate of audio, a probe of 500 kB takes seconds
RTSP_OPTIONS = {"rtsp_transport": "tcp"}
OPEN_ADVICE = "check the address and that the device is on"


class NetworkCamera(LiveDevice):
    """A camera at a URL. Delivers undecoded frames with the monotonic time of their arrival."""

    kind = "camera"

    def __init__(self, url: str) -> None:
        self.name = without_credentials(url)
        self._url = url
        self._mjpeg: MjpegStream | None = None
        self._container: Any = None
        self._iterator: Iterator[CapturedFrame] = iter(())
        self._seq = 0

    def open(self) -> None:
        """Connect to the camera. Raises DeviceError if it cannot be reached or does not send video."""
        self.close()
        if self._url.lower().startswith("http://"):
            try:
                self._mjpeg = MjpegStream.connect(self._url, READ_TIMEOUT_S)
            except NotMultipartError:  # digest authentication, a redirect or another video format: PyAV may read it
                self._mjpeg = None
            except (OSError, ValueError) as error:
                raise self.error(f"cannot be opened ({error_reason(error)}); {OPEN_ADVICE}") from error
            except DeviceError as error:
                raise self.error(str(error)) from error
        if self._mjpeg is None:
            self._container = open_container(self, self._url, LOW_LATENCY_OPTIONS)
            if is_image(self._container):
                self.close()
                raise self.error(SNAPSHOT_ADVICE)
            self._iterator = self._demux_frames(self._container)

    def read(self) -> CapturedFrame:
        """Block until the next frame arrives and return it. Raises DeviceError if the camera delivers no more."""
        if self._mjpeg is not None:
            try:
                data = self._mjpeg.read()
            except DeviceError as error:
                raise self.error(str(error)) from error
            return self._timestamped(data)
        if self._container is None:
            raise self.error("is not open")
        frame = next(self._iterator, None)
        if frame is None:
            raise self.error(NO_MORE_FRAMES)
        return frame

    def _timestamped(self, data: U8 | av.VideoFrame) -> CapturedFrame:
        self._seq += 1
        return CapturedFrame(data, time.monotonic_ns(), self._seq - 1, decode)

    def _demux_frames(self, container: Any) -> Iterator[CapturedFrame]:
        import av.error  # noqa: PLC0415  see open_container

        if not container.streams.video:
            raise self.error("sends no video; check the address")
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
            raise self.error(f"{NO_MORE_FRAMES} ({error_reason(error)})") from error

    def close(self) -> None:
        """Disconnect."""
        if self._mjpeg is not None:
            self._mjpeg.close()
            self._mjpeg = None
        if self._container is not None:
            self._iterator = iter(())
            self._container.close()
            self._container = None


class NetworkMicrophone(LiveDevice):
    """The sound of a stream at a URL: mono float32 at `rate_hz` with the monotonic time of its arrival."""

    kind = "microphone"

    def __init__(self, url: str, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self.name = without_credentials(url)
        self._url = url
        self.rate_hz = rate_hz
        self.blocks_dropped = 0  # always 0: data that is not read yet stays in the network's buffers
        self._container: Any = None
        self._iterator: Iterator[F32] = iter(())

    def open(self) -> None:
        """Connect to the stream. Raises DeviceError if it cannot be reached."""
        self.close()
        self._container = open_container(self, self._url, LOW_LATENCY_OPTIONS | AUDIO_PROBE_OPTIONS)
        self._iterator = self._blocks(self._container)

    def read(self) -> tuple[F32, int]:
        """Block until samples arrive; return them, float32 [N], and the monotonic time of their arrival in ns.

        Raises DeviceError if the stream contains no sound or delivers no more.
        """
        if self._container is None:
            raise self.error("is not open")
        samples = next(self._iterator, None)
        if samples is None:
            raise self.error(NO_MORE_SOUND)
        return samples, time.monotonic_ns()

    def _blocks(self, container: Any) -> Iterator[F32]:
        import av.error  # noqa: PLC0415  see open_container

        from moodring.capture.sound import Resampler  # noqa: PLC0415  imports PyAV

        if not container.streams.audio:
            raise self.error("sends no sound; check the address")
        resampler = Resampler(self.rate_hz)
        try:
            for packet in container.demux(container.streams.audio[0]):
                for frame in packet.decode():
                    samples = resampler.push(frame)
                    if samples.size:
                        yield samples
        except (av.error.FFmpegError, OSError) as error:
            raise self.error(f"{NO_MORE_SOUND} ({error_reason(error)})") from error

    def close(self) -> None:
        """Disconnect."""
        if self._container is not None:
            self._iterator = iter(())
            self._container.close()
            self._container = None


def open_container(device: LiveDevice, url: str, options: dict[str, str]) -> Any:
    """Open the URL of a device with PyAV. Raises DeviceError. PyAV is large, so it is imported only when it is needed."""
    import av  # noqa: PLC0415
    import av.error  # noqa: PLC0415

    rtsp_options = RTSP_OPTIONS if url.lower().startswith(("rtsp://", "rtsps://")) else {}
    try:
        return av.open(url, options=options | rtsp_options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise device.error(f"cannot be opened ({error_reason(error)}); {OPEN_ADVICE}") from error


def is_image(container: Any) -> bool:
    """Return whether a container of PyAV is one image, not a stream."""
    name: str = container.format.name
    return name == "image2" or name.endswith("_pipe")


def decode(data: U8 | av.VideoFrame) -> tuple[U8, int] | None:
    """Return a frame in grey, uint8 [H, W], and its reduction factor, or None for a damaged JPEG.

    `data` is the bytes of a JPEG, uint8 [N], or a frame of PyAV.
    """
    if not isinstance(data, np.ndarray):
        return downscale_for_faces(luma_plane(data))
    height = jpeg_height(data)
    if height is None:
        return None
    reduction = reduction_factor(height)
    grey = decode_jpeg(data, reduction)
    return None if grey is None else (grey, reduction)
