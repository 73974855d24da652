"""Network cameras and microphones. HTTP MJPEG is read by `mjpeg`; RTSP, UDP, SRT, HLS and all else by PyAV.

JPEG frames are independent: only the bytes are read here, and a JPEG is decoded when it is processed. Frames of other codecs
depend on each other, so each one is decoded, but its luma plane is converted only when the frame is processed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from moodring.capture.base import NO_MORE_FRAMES, NO_MORE_SOUND, CapturedFrame, LiveDevice, error_reason
from moodring.capture.grey import decode_jpeg, grey_frame, reduction_factor
from moodring.capture.http.jpeg import jpeg_height
from moodring.capture.http.mjpeg import SNAPSHOT_ADVICE, MjpegStream, NotMultipartError
from moodring.errors import DeviceError, UsageError
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

    def __init__(self, url: str, track: int | None = None) -> None:
        self.name = without_credentials(url)
        self._url = url
        self._track = track  # index among the video tracks; None is the default track
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
            return self._timestamped(data, decode)
        if self._container is None:
            raise self.error("is not open")
        frame = next(self._iterator, None)
        if frame is None:
            raise self.error(NO_MORE_FRAMES)
        return frame

    def _timestamped(self, data: U8 | av.VideoFrame, decode_data: Callable[[Any], tuple[U8, int] | None]) -> CapturedFrame:
        self._seq += 1
        return CapturedFrame(data, time.monotonic_ns(), self._seq - 1, decode_data)

    def _demux_frames(self, container: Any) -> Iterator[CapturedFrame]:
        import av.error  # noqa: PLC0415  see open_container

        stream, aspect = _select_track(self, container, "video", self._track)
        decode_frame = functools.partial(decode, aspect=aspect)
        try:
            for packet in container.demux(stream):
                if stream.codec_context.name == "mjpeg":
                    if packet.size:
                        yield self._timestamped(np.frombuffer(bytes(packet), np.uint8), decode)
                    continue
                for frame in packet.decode():
                    yield self._timestamped(frame, decode_frame)
        except (av.error.FFmpegError, OSError, IndexError) as error:  # IndexError: a track appeared within the stream
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

    def __init__(self, url: str, rate_hz: int = SAMPLE_RATE_HZ, track: int | None = None) -> None:
        self.name = without_credentials(url)
        self._url = url
        self._track = track  # index among the audio tracks; None is the default track
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

        stream, _ = _select_track(self, container, "audio", self._track)
        resampler = Resampler(self.rate_hz)
        try:
            for packet in container.demux(stream):
                for frame in packet.decode():
                    samples = resampler.push(frame)
                    if samples.size:
                        yield samples
        except (av.error.FFmpegError, OSError, IndexError) as error:  # IndexError: a track appeared within the stream
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


def _select_track(device: LiveDevice, container: Any, kind: Literal["video", "audio"], index: int | None) -> tuple[Any, float]:
    """Return the selected track of a stream and its sample aspect ratio. Raises DeviceError if it cannot be decoded."""
    from moodring.capture.media.container import sample_aspect_ratio, select_track  # noqa: PLC0415  imports PyAV

    try:
        track = select_track(container, kind, index, device.name)
    except UsageError as error:
        raise device.error(f"has no {kind} track {index}; choose another with --{kind}-track") from error
    if track is None:
        raise device.error(f"sends no {'video' if kind == 'video' else 'sound'}; check the address")
    if track.codec_context is None:
        raise device.error(
            f"sends {kind} with an unknown codec; choose another with --{kind}-track, or set it up in the device"
        )
    track.codec_context.thread_count = 1
    return track, sample_aspect_ratio(track) if kind == "video" else 1.0


def decode(data: U8 | av.VideoFrame, aspect: float = 1.0) -> tuple[U8, int] | None:
    """Return a frame in grey, uint8 [H, W], and its reduction factor, or None for a damaged frame.

    `data` is the bytes of a JPEG, uint8 [N], or a frame of PyAV with the sample aspect ratio `aspect`.
    """
    if not isinstance(data, np.ndarray):
        return grey_frame(data, aspect)
    height = jpeg_height(data)
    if height is None:
        return None
    reduction = reduction_factor(height)
    grey = decode_jpeg(data, reduction)
    return None if grey is None else (grey, reduction)
