"""Recordings and network streams through PyAV: pictures in grey, sound in mono at 16 kHz, each with its own time stamps.

Times count from the start that the container states for all its streams, so picture and sound stay aligned. Each kind is
read through a container of its own: a file whose streams are badly interleaved then needs no buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import av
import av.container
import av.error
import numpy as np

from moodring.address import check_path, is_url
from moodring.capture.grey import downscale, luma_plane, reduction_factor
from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.errors import MediaError
from moodring.types import AudioBlock, VideoFrame

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
REANCHOR_NS = 40 * NS_PER_MS  # sound whose stamps leave the sample count by more starts a new count
MAX_DAMAGED_PACKETS = 100  # in a row
# Containers that state a duration one can hold them to.
EXACT_DURATION_FORMATS = ("mp4", "matroska", "flac")
TRUNCATION_TOLERANCE_NS = NS_PER_S // 2


@dataclass(slots=True)
class MediaCounters:
    """What reading a recording met: every damaged packet and every datum that was left out."""

    frames: int = 0
    samples: int = 0
    damaged_packets: int = 0
    out_of_order: int = 0

    @property
    def losses(self) -> dict[str, int]:
        """What was left out, by name."""
        return {"damaged packets": self.damaged_packets, "frames out of order": self.out_of_order}

    @property
    def captured(self) -> dict[str, int]:
        return {"frames_captured": self.frames, "samples_captured": self.samples}

    @property
    def dropped(self) -> dict[str, int]:
        return {"damaged_packets": self.damaged_packets, "frames_out_of_order": self.out_of_order}


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a recording holds."""

    source: str
    has_video: bool
    has_audio: bool


def open_container(source: str) -> av.container.InputContainer:
    """Open a file or URL for reading; every failure is a UsageError or a MediaError that says what to check."""
    check_path(source)
    try:
        return av.open(source, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = "is the address right and the server up?" if is_url(source) else "is it a complete media file?"
        raise MediaError(f"{source} cannot be opened as picture or sound ({reason}); {advice}") from error


def probe(source: str) -> MediaInfo:
    """Open a recording, say what it holds, and close it. Raises MediaError where it holds neither."""
    with open_container(source) as container:
        info = MediaInfo(source, bool(_streams(container, "video")), bool(_streams(container, "audio")))
    if not (info.has_video or info.has_audio):
        raise MediaError(f"{source} holds neither picture nor sound")
    return info


def _streams(container: av.container.InputContainer, kind: str) -> list[Any]:
    """Return the streams of a kind; an attached cover picture is no video."""
    found = container.streams.video if kind == "video" else container.streams.audio
    return [stream for stream in found if not stream.disposition & av.stream.Disposition.attached_pic]


@dataclass(slots=True)
class _ContainerReader:
    """Decodes one kind of stream, tolerant of damaged packets, strict about a file that ends too early."""

    source: str
    counters: MediaCounters = field(default_factory=MediaCounters)
    _container: av.container.InputContainer | None = None
    _last_ns: int = -1

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, kind: str) -> Iterator[tuple[Any, int | None]]:
        """Yield decoded frames with their time in ns from the container's start, or None where they carry none."""
        container = self._container = open_container(self.source)
        streams = _streams(container, kind)
        if not streams:
            raise MediaError(f"{self.source} holds no {'picture' if kind == 'video' else 'sound'}")
        stream = streams[0]
        stream.codec_context.thread_count = 1
        start_ns = (container.start_time or 0) * 1000  # AV_TIME_BASE is microseconds
        end_ns = 0
        for frame in self._frames(container, stream):
            time_ns = None
            if frame.pts is not None:
                time_ns = max(0, round(frame.pts * frame.time_base * NS_PER_S) - start_ns)
                end_ns = max(end_ns, time_ns + round((frame.duration or 0) * frame.time_base * NS_PER_S))
            yield frame, time_ns
        self._check_not_truncated(container, stream, start_ns, end_ns)
        self.close()

    def _frames(self, container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
        consecutive_damaged = 0
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.EOFError:
                    return
                except av.error.FFmpegError as error:
                    self.counters.damaged_packets += 1
                    consecutive_damaged += 1
                    if consecutive_damaged > MAX_DAMAGED_PACKETS:
                        raise MediaError(f"{self.source} cannot be decoded ({error.strerror}); is it damaged?") from error
                    continue
                if frames:
                    consecutive_damaged = 0
                yield from frames
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self.source} broke off while reading ({error}); is it damaged, or the server gone?") from error

    def _check_not_truncated(self, container: Any, stream: Any, start_ns: int, end_ns: int) -> None:
        """A file whose index promises more than it held was cut off: what it held was used, but say so."""
        if is_url(self.source) or not any(name in container.format.name for name in EXACT_DURATION_FORMATS):
            return
        if stream.duration is None or stream.time_base is None:
            return
        stated_ns = round(((stream.start_time or 0) + stream.duration) * stream.time_base * NS_PER_S) - start_ns
        if stated_ns - end_ns > TRUNCATION_TOLERANCE_NS + stated_ns // 20:
            raise MediaError(
                f"{self.source} ends after {end_ns / NS_PER_S:.1f} s of {stated_ns / NS_PER_S:.1f} s: "
                "the file is truncated or damaged (what it held was used)"
            )


class VideoFile(_ContainerReader):
    """The pictures of a recording, in time order."""

    def __iter__(self) -> Iterator[VideoFrame]:
        for frame, time_ns in self._decode("video"):
            if time_ns is None or time_ns <= self._last_ns:
                self.counters.out_of_order += 1
                continue
            self._last_ns = time_ns
            grey = luma_plane(frame)
            reduction = reduction_factor(len(grey))
            yield VideoFrame(downscale(grey, reduction), time_ns, self.counters.frames, reduction)
            self.counters.frames += 1


class AudioFile(_ContainerReader):
    """The sound of a recording: mono float32 at `rate_hz`, whatever its own rate and channels."""

    rate_hz: int = 16_000

    def __iter__(self) -> Iterator[AudioBlock]:
        resampler = self._resampler()
        anchor_ns, samples_since_anchor = 0, 0
        input_ns = 0  # where the input should be by its own sample count
        previous_format: tuple[object, ...] | None = None
        for frame, time_ns in self._decode("audio"):
            is_discontinuous = time_ns is not None and abs(time_ns - input_ns) > REANCHOR_NS
            audio_format = (frame.sample_rate, frame.layout.name, frame.format.name)
            if is_discontinuous or audio_format != previous_format:
                for block in self._blocks(resampler, None, anchor_ns, samples_since_anchor):
                    samples_since_anchor += block.samples.size
                    yield block
                input_ns = input_ns if time_ns is None else time_ns
                resampler, anchor_ns, samples_since_anchor, previous_format = self._resampler(), input_ns, 0, audio_format
            input_ns += frame.samples * NS_PER_S // frame.sample_rate
            frame.pts = None
            for block in self._blocks(resampler, frame, anchor_ns, samples_since_anchor):
                samples_since_anchor += block.samples.size
                yield block
        yield from self._blocks(resampler, None, anchor_ns, samples_since_anchor)
        if not self.counters.samples:
            raise MediaError(f"{self.source} holds no sound: its audio stream is empty")

    def _resampler(self) -> av.AudioResampler:
        return av.AudioResampler("fltp", rate=self.rate_hz)  # channels stay apart: FFmpeg's own mono is 3 dB too loud

    def _blocks(self, resampler: av.AudioResampler, frame: Any, anchor_ns: int, offset: int) -> Iterator[AudioBlock]:
        for resampled in resampler.resample(frame):
            samples = resampled.to_ndarray().mean(axis=0, dtype=np.float32)
            # A decoder of floating-point sound may hand on anything: what is no number is silence.
            samples = np.clip(np.nan_to_num(samples, copy=False), -1.0, 1.0)
            if samples.size:
                yield AudioBlock(samples, anchor_ns + offset * NS_PER_S // self.rate_hz, self.rate_hz)
                offset += samples.size
                self.counters.samples += samples.size
