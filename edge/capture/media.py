"""Media files and URLs through PyAV: grey frames, and mono sound at 16 kHz, each with presentation times.

Times count from the start time that the container states for all its streams, so that video and sound stay aligned. Video and
sound are read through separate containers: no buffer is needed for files whose streams are badly interleaved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import av
import av.container
import av.error

from moodring.address import check_path, is_pipe, is_url
from moodring.capture.base import error_reason
from moodring.capture.grey import downscale_for_faces, luma_plane
from moodring.capture.pipe import PipeInterrupted, PipeReader
from moodring.capture.sound import mono_samples, new_resampler, sample_format
from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.errors import MediaError, printable
from moodring.types import SAMPLE_RATE_HZ, AudioBlock, VideoFrame

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
PIPE_OPTIONS = {"protocol_whitelist": "file,crypto,data"}  # as FFmpeg does for files: a playlist cannot open a connection
REANCHOR_NS = 40 * NS_PER_MS  # a larger difference between time stamp and sample count restarts the count
MAX_DAMAGED_PACKETS = 100  # in a row
EXACT_DURATION_FORMATS = ("mp4", "matroska", "flac")  # containers whose stated duration is reliable
TRUNCATION_TOLERANCE_NS = NS_PER_S // 2


@dataclass(slots=True)
class MediaCounters:
    """Counts of the data that was read from a recording, and of the data that was dropped."""

    frames: int = 0
    samples: int = 0
    damaged_packets: int = 0
    out_of_order: int = 0

    @property
    def captured(self) -> dict[str, int]:
        """Counts of the data that was read, by counter name."""
        return {"frames_captured": self.frames, "samples_captured": self.samples}

    @property
    def dropped(self) -> dict[str, int]:
        """Counts of the data that was dropped, by counter name."""
        return {"damaged_packets": self.damaged_packets, "frames_out_of_order": self.out_of_order}

    @property
    def losses(self) -> dict[str, int]:
        """Counts of the data that was dropped, by a description in words."""
        return {name.replace("_", " "): count for name, count in self.dropped.items()}


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Which kinds of streams a recording contains."""

    source: str
    has_video: bool
    has_audio: bool


def open_container(source: str) -> av.container.InputContainer:
    """Open a file or URL for reading. Raises UsageError for a missing file, MediaError if PyAV cannot open it."""
    check_path(source)
    try:
        if is_pipe(source):
            return av.open(PipeReader(source), mode="r", options=PIPE_OPTIONS)
        # The prefix: FFmpeg takes a name with a colon for an address.
        return av.open(source if is_url(source) else f"file:{source}", timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
    except PipeInterrupted as error:
        raise KeyboardInterrupt from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        advice = (
            "check the address and that the server is up" if is_url(source)
            else "a pipe needs a format that can be read in one pass, such as MPEG-TS or Matroska" if is_pipe(source)
            else "check that it is a complete media file"
        )  # fmt: skip
        name = printable(source)
        raise MediaError(f"{name} cannot be opened as video or audio ({error_reason(error)}); {advice}") from error


def probe(source: str) -> MediaInfo:
    """Return which kinds of streams a file or URL contains. Raises MediaError if it contains neither video nor audio."""
    with open_container(source) as container:
        info = MediaInfo(source, bool(_streams(container, "video")), bool(_streams(container, "audio")))
    if not (info.has_video or info.has_audio):
        raise MediaError(f"{source} contains neither video nor audio; name another file")
    return info


def _streams(container: av.container.InputContainer, kind: str) -> list[Any]:
    """Return the streams of one kind. An attached cover image does not count as video."""
    found = container.streams.video if kind == "video" else container.streams.audio
    return [stream for stream in found if not stream.disposition & av.stream.Disposition.attached_pic]


@dataclass(slots=True)
class _ContainerReader:
    """Decodes the first stream of one kind. Skips damaged packets. Raises MediaError if the file is shorter than it states."""

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
        """Yield decoded frames, each with its time in ns since the start of the container, or None if it has no time stamp."""
        container = self._container = open_container(self.source)
        streams = _streams(container, kind)
        if not streams:
            raise MediaError(f"{self.source} contains no {kind}")
        stream = streams[0]
        stream.codec_context.thread_count = 1
        start_ns = (container.start_time or 0) * 1000  # start_time is in microseconds (AV_TIME_BASE)
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
                        raise MediaError(
                            f"{self.source} cannot be decoded: {consecutive_damaged} damaged packets in a row "
                            f"({error.strerror}); replace the file"
                        ) from error
                    continue
                if frames:
                    consecutive_damaged = 0
                yield from frames
        except PipeInterrupted as error:
            raise KeyboardInterrupt from error
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(
                f"{self.source} cannot be read to its end ({error}); check that the file is intact or the server is up"
            ) from error

    def _check_not_truncated(self, container: Any, stream: Any, start_ns: int, end_ns: int) -> None:
        """Raise MediaError if a file ends before the duration that its index states. Its data was already delivered."""
        if is_url(self.source) or not any(name in container.format.name for name in EXACT_DURATION_FORMATS):
            return
        if stream.duration is None or stream.time_base is None:
            return
        stated_ns = round(((stream.start_time or 0) + stream.duration) * stream.time_base * NS_PER_S) - start_ns
        if stated_ns - end_ns > TRUNCATION_TOLERANCE_NS + stated_ns // 20:
            raise MediaError(
                f"{self.source} ends after {end_ns / NS_PER_S:.1f} s of {stated_ns / NS_PER_S:.1f} s: "
                "the file is truncated or damaged; everything before that point was processed"
            )


class VideoFile(_ContainerReader):
    """The frames of a recording in time order, grey uint8 [H, W]. Iterate to read it."""

    def __iter__(self) -> Iterator[VideoFrame]:
        for frame, time_ns in self._decode("video"):
            if time_ns is None or time_ns <= self._last_ns:
                self.counters.out_of_order += 1
                continue
            self._last_ns = time_ns
            grey, reduction = downscale_for_faces(luma_plane(frame))
            yield VideoFrame(grey, time_ns, self.counters.frames, reduction)
            self.counters.frames += 1


class AudioFile(_ContainerReader):
    """The sound of a recording in time order, mono float32 at `rate_hz`. Iterate to read it.

    The time of a block is the sample count since an anchor. The anchor moves to the time stamp of a frame that differs from the
    count by more than `REANCHOR_NS`.
    """

    rate_hz: int = SAMPLE_RATE_HZ

    def __iter__(self) -> Iterator[AudioBlock]:
        resampler = new_resampler(self.rate_hz)
        anchor_ns, samples_since_anchor = 0, 0
        input_ns = 0  # expected time of the next frame, from the sample count
        previous_format: tuple[int, str, str] | None = None
        for frame, time_ns in self._decode("audio"):
            is_discontinuous = time_ns is not None and abs(time_ns - input_ns) > REANCHOR_NS
            audio_format = sample_format(frame)
            if is_discontinuous or audio_format != previous_format:
                for block in self._blocks(resampler, None, anchor_ns, samples_since_anchor):
                    samples_since_anchor += block.samples.size
                    yield block
                input_ns = input_ns if time_ns is None else time_ns
                resampler, anchor_ns, samples_since_anchor = new_resampler(self.rate_hz), input_ns, 0
                previous_format = audio_format
            input_ns += frame.samples * NS_PER_S // frame.sample_rate
            frame.pts = None
            for block in self._blocks(resampler, frame, anchor_ns, samples_since_anchor):
                samples_since_anchor += block.samples.size
                yield block
        yield from self._blocks(resampler, None, anchor_ns, samples_since_anchor)
        if not self.counters.samples:
            raise MediaError(f"{self.source} contains no audio: its audio stream is empty")

    def _blocks(self, resampler: av.AudioResampler, frame: Any, anchor_ns: int, offset: int) -> Iterator[AudioBlock]:
        """Yield the blocks that a frame completes, or those left in the filter if `frame` is None."""
        for resampled in resampler.resample(frame):
            samples = mono_samples(resampled)
            if samples.size:
                yield AudioBlock(samples, anchor_ns + offset * NS_PER_S // self.rate_hz, self.rate_hz)
                offset += samples.size
                self.counters.samples += samples.size
