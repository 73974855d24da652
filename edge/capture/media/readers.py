"""Media files and URLs as grey frames, and as mono sound at 16 kHz, each with presentation times.

Times count from the start time that the container states for all its tracks, so that video and sound stay aligned. Video and
sound are read through separate containers: no buffer is needed for files whose tracks are badly interleaved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import av.container
import av.error

from moodring.capture.base import error_reason
from moodring.capture.grey import grey_frame
from moodring.capture.media.container import (
    DISCONTINUOUS,
    NO_TIME_STAMPS,
    Kind,
    decode_packets,
    describe,
    discard_others,
    frame_rate,
    missing_end,
    open_container,
    sample_aspect_ratio,
    select_track,
    stated_end_ns,
    tracks,
)
from moodring.capture.media.joined import next_part
from moodring.capture.media.timeline import Jumps, SoundTimeline, Timeline, VideoTimeline
from moodring.capture.selection import DEFAULT_SELECTION, Selection
from moodring.capture.sound import Resampler
from moodring.clock import NS_PER_S
from moodring.errors import MediaError, UsageError, printable
from moodring.types import SAMPLE_RATE_HZ, U8, AudioBlock, VideoFrame

MAX_DAMAGED_PACKETS = 1000  # before the first frame
MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 1000, 1_000_000


@dataclass(slots=True)
class MediaCounters:
    """Counts of the data that was read from a recording, and of the data that was dropped."""

    frames: int = 0
    samples: int = 0
    damaged_packets: int = 0
    out_of_order: int = 0
    time_stamp_jumps: int = 0

    @property
    def captured(self) -> dict[str, int]:
        """Counts of the data that was read, by counter name."""
        return {
            "frames_captured": self.frames,
            "samples_captured": self.samples,
            "time_stamp_jumps": self.time_stamp_jumps,
        }

    @property
    def dropped(self) -> dict[str, int]:
        """Counts of the data that was dropped, by counter name."""
        return {"damaged_packets": self.damaged_packets, "frames_out_of_order": self.out_of_order}

    @property
    def losses(self) -> dict[str, int]:
        """Counts of the data that was dropped, by a description in words."""
        return {name.replace("_", " "): count for name, count in self.dropped.items()}


@dataclass(slots=True)
class _TrackReader:
    """Decodes one track. Skips damaged packets. Raises MediaError if the track is unusable or shorter than the file states.

    Everything that could be decoded is delivered before an error. `notes` says what a user must know about the track. Readers
    of video and sound of one file share `jumps`.
    """

    source: str
    selection: Selection = DEFAULT_SELECTION
    jumps: Jumps = field(default_factory=Jumps)
    counters: MediaCounters = field(default_factory=MediaCounters)
    notes: list[str] = field(default_factory=list)
    read_bytes: int = 0  # position in the file behind the last packet
    file_tracks: int = 0  # tracks of all kinds that the file contains
    _start: int = 0  # position in the file of the part that is read
    _track: Any = None  # of that part; a track of a closed container must not be used
    _container: av.container.InputContainer | None = None

    @property
    def name(self) -> str:
        """The source as it is printed."""
        return printable(self.source)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, kind: Kind, start: int = 0) -> Any:
        """Open the file, or the part of it that begins at the byte `start`, and return the selected track."""
        self.close()
        raw_audio = self.selection.raw_audio if kind == "audio" else None
        container = self._container = open_container(self.source, raw_audio, start)
        self._start = start
        index = self.selection.video_track if kind == "video" else self.selection.audio_track
        track = select_track(container, kind, index, self.name)
        if track is None:
            raise MediaError(f"{self.name} contains no {kind}")
        others = tracks(container, kind)
        if index is None and len(others) > 1 and not start:
            self.notes.append(
                f"{self.name} has {len(others)} {kind} tracks: using track {others.index(track)} ({describe(track)}); "
                f"choose another with --{kind}-track"
            )
        if track.codec_context is None:
            raise MediaError(f"{self.name}: the {kind} track has an unknown codec and is left out; convert it with ffmpeg")
        track.codec_context.thread_count = 1
        self.file_tracks = len(container.streams)
        discard_others(container, track)
        self._track = track
        return track

    def _decode(self, track: Any) -> Iterator[Any]:
        """Yield the decoded frames of a track, in all parts of a file of joined recordings; count damaged packets."""
        kind: Kind = track.type
        failure: MediaError | None = None
        part: Any = track
        while part is not None:
            try:
                yield from self._decode_part(part)
                failure = None
            except MediaError as error:
                failure = error
            part = self._open_next(kind)
        if failure is not None:
            raise failure

    def _open_next(self, kind: Kind) -> Any:
        """Open the part behind the one that was read and return its track; None if there is none."""
        is_read = self.read_bytes > self._start and self.selection.raw_audio is None
        position = next_part(self.source, self.read_bytes) if is_read else None
        if position is None:
            return None
        before, self._container = (self._container, self._start), None
        try:
            track = self._open(kind, position)
        except (MediaError, UsageError):
            self.close()
            self._container, self._start = before
            return None
        if before[0] is not None:
            before[0].close()
        return track

    def _decode_part(self, track: Any) -> Iterator[Any]:
        """Yield the decoded frames of a track of the part that is open."""
        is_decoded = False
        for end, frames in decode_packets(self._container, track, self.source):
            self.read_bytes = max(self.read_bytes, self._start + end if end else 0)
            if frames is None:
                self.counters.damaged_packets += 1
                if not is_decoded and self.counters.damaged_packets > MAX_DAMAGED_PACKETS:
                    break
            elif frames:
                is_decoded = True
                yield from frames
        if not is_decoded and self.counters.damaged_packets:
            raise MediaError(
                f"{self.name}: no {track.type} can be decoded ({track.codec_context.name}): all of the "
                f"{self.counters.damaged_packets} packets that were read are damaged; replace the file"
            )

    def _stamp_ns(self, stamp: int | None, time_base: Any) -> int | None:
        """Return a time stamp in ns since the start of the container."""
        container = self._container
        if stamp is None or container is None or container.format.flags & NO_TIME_STAMPS:
            return None
        time_ns: int = round(stamp * time_base * NS_PER_S)
        return time_ns - (container.start_time or 0) * 1000  # start_time is in microseconds

    def _finish(self, timeline: Timeline, end_ns: int) -> None:
        """Note the jumps of the time stamps. Raise MediaError if the file ends before the duration that its index states."""
        kind = self._track.type
        missing = None if self._start else missing_end(self._container, self._track, self.source, end_ns)
        self.close()
        self.counters.time_stamp_jumps += timeline.count
        if timeline.count:
            self.notes.append(
                f"{self.name}: the time stamps of the {kind} jumped {timeline.count} "
                f"time{'s' if timeline.count > 1 else ''}, first {timeline.first}; its times continue without the jumps"
            )
        if missing:
            raise MediaError(f"{self.name} {missing}")


@dataclass(slots=True)
class VideoFile(_TrackReader):
    """The frames of a recording in time order, grey uint8 [H, W] with square pixels. Iterate to read it.

    With `keep_first`, `first` is the first frame in its full size.
    """

    keep_first: bool = False
    first: U8 | None = None

    def __iter__(self) -> Iterator[VideoFrame]:
        track = self._open("video")
        aspect, start = sample_aspect_ratio(track), self._start
        timeline = self._timeline(track)
        end_ns = 0
        for frame, time_ns in self._timed_frames(track, timeline):
            end_ns = time_ns + (round(frame.duration * frame.time_base * NS_PER_S) if frame.duration else 0)
            if self._start != start:  # another part of joined recordings
                aspect, start = sample_aspect_ratio(self._track), self._start
            try:
                grey, reduction = grey_frame(frame, aspect)
                if self.keep_first and not self.counters.frames:
                    self.first = grey_frame(frame, aspect, full_size=True)[0]
            except (av.error.FFmpegError, ValueError):  # a pixel format that cannot be converted
                self.counters.damaged_packets += 1
                continue
            yield VideoFrame(grey, time_ns, self.counters.frames, reduction)
            self.counters.frames += 1
        self.counters.out_of_order += timeline.dropped
        if not self.counters.frames:
            raise MediaError(f"{self.name} contains no video: no frame of its video track can be decoded")
        self._finish(timeline, end_ns)

    def _timeline(self, track: Any) -> VideoTimeline:
        rate = frame_rate(track, self.selection.frame_rate)
        container = self._container
        flags = container.format.flags if container is not None else 0
        if flags & NO_TIME_STAMPS and self.selection.frame_rate is None:
            self.notes.append(
                f"{self.name} has no time stamps: its video is read at {rate:g} frames a second; change it with --frame-rate"
            )
        return VideoTimeline(
            self.jumps, stated_end_ns(container, track), bool(flags & DISCONTINUOUS), period_ns=round(NS_PER_S / rate)
        )

    def _timed_frames(self, track: Any, timeline: VideoTimeline) -> Iterator[tuple[Any, int]]:
        for frame in self._decode(track):
            stamp = timeline.choose_stamp(frame.pts, frame.dts)
            yield from timeline.push(frame, self._stamp_ns(stamp, frame.time_base))
        yield from timeline.flush()


class AudioFile(_TrackReader):
    """The sound of a recording in time order, mono float32 at `rate_hz`. Iterate to read it.

    The time of a block is the sample count since an anchor. The anchor moves to the time stamp of a frame that differs from the
    count by more than `REANCHOR_NS`.
    """

    rate_hz: int = SAMPLE_RATE_HZ

    def __iter__(self) -> Iterator[AudioBlock]:
        track = self._open("audio")
        flags = self._container.format.flags if self._container is not None else 0
        timeline = SoundTimeline(self.jumps, stated_end_ns(self._container, track), bool(flags & DISCONTINUOUS))
        resampler = Resampler(self.rate_hz)
        anchor_ns, count = 0, 0  # samples since the anchor
        try:
            for frame in self._decode(track):
                if not MIN_SAMPLE_RATE_HZ <= frame.sample_rate <= MAX_SAMPLE_RATE_HZ:
                    raise MediaError(f"{self.name}: a sample rate of {frame.sample_rate} Hz is damaged; the sound is left out")
                duration_ns = frame.samples * NS_PER_S // frame.sample_rate
                stamp_ns = self._stamp_ns(frame.pts, frame.time_base)
                if timeline.push(stamp_ns, duration_ns, restart=resampler.is_new_format(frame)):
                    for block in self._block(resampler.flush(), anchor_ns, count):
                        yield block
                    anchor_ns, count = timeline.next_ns - duration_ns, 0
                for block in self._block(resampler.push(frame), anchor_ns, count):
                    count += block.samples.size
                    yield block
            yield from self._block(resampler.flush(), anchor_ns, count)
        except av.error.FFmpegError as error:
            raise MediaError(
                f"{self.name}: its sound ({describe(self._track)}) cannot be converted ({error_reason(error)}) and is left out"
            ) from error
        if not self.counters.samples:
            raise MediaError(f"{self.name} contains no audio: its audio stream is empty")
        self._finish(timeline, timeline.next_ns)

    def _block(self, samples: Any, anchor_ns: int, offset: int) -> Iterator[AudioBlock]:
        """Yield the samples as a block, if there are any."""
        if samples.size:
            yield AudioBlock(samples, anchor_ns + offset * NS_PER_S // self.rate_hz, self.rate_hz)
            self.counters.samples += samples.size
