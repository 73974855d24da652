"""Replay of recordings through a pipeline in the order of their time stamps: no threads, and the same events every time."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Self, TypeVar

from moodring.address import is_pipe, is_url
from moodring.capture.media import AudioFile, VideoFile
from moodring.capture.media.joined import unread_notes
from moodring.capture.media.timeline import Jumps
from moodring.clock import NS_PER_S, Clock, MonotonicClock
from moodring.config import Config, InferenceConfig
from moodring.errors import MediaError
from moodring.features.audio.spectrum import KernelName
from moodring.inference.bundle import Bundle
from moodring.inference.variants import resolve_auto
from moodring.pipeline import Pipeline
from moodring.run.counters import StreamCounters, TimerFactory, ended_normally
from moodring.run.identity import name_events
from moodring.run.options import RunOptions
from moodring.run.preview import Preview
from moodring.run.sinks import OpenPage, PageControls, open_sinks, stream_info
from moodring.run.sources import Sources
from moodring.telemetry import HistogramTimer
from moodring.types import U8, AudioBlock, DeviceState, EmotionEvent, VideoFrame

if TYPE_CHECKING:  # threads are not needed here
    from moodring.run.stream import Stages

Datum = TypeVar("Datum")

REPLAY_KERNEL: KernelName = "cv2"


def replay_recording(
    options: RunOptions,
    config: Config,
    bundle: Bundle,
    sources: Sources,
    *,
    open_page: OpenPage,
    log: Callable[[str], None],
    make_timer: TimerFactory = HistogramTimer,
) -> None:
    """Replay one recording and publish its events to the configured sinks."""
    config = reproducible(config)
    clock = MonotonicClock()
    preview = Preview() if options.preview else None
    counters = StreamCounters(clock, make_timer)
    pipeline = Pipeline(
        config, bundle, name_events(sources, config, bundle.id),
        timer=counters.timer, on_frame=preview.on_frame if preview else None,
    )  # fmt: skip
    counters.attach(sources, pipeline)
    with contextlib.ExitStack() as stack:
        info = stream_info(counters, config, options)
        controls = PageControls(previews={info.name: preview.jpeg} if preview else {})
        (distributor,) = open_sinks(
            config, [info], clock, stack=stack, log=log, open_page=open_page, controls=controls
        )  # fmt: skip
        stack.push(lambda kind, _error, _where: counters.log_summary(log) if ended_normally(kind) else None)
        recording = stack.enter_context(Recording(sources))
        counters.readers, counters.notes = [reader.counters for reader in recording.readers], recording.notes
        pace = clock if options.pace == "realtime" else None
        for _, event in recording.replay(pipeline, config, pace=pace, seconds=options.seconds):
            distributor.publish(preview.mark(event) if preview else event)


class Recording:
    """The tracks of a recording. A track that fails ends alone: `notes` says why, and `devices` shows it.

    With `keep_image`, the frame of an image is also kept in its full size, for `image`.
    """

    def __init__(self, sources: Sources, *, keep_image: bool = False) -> None:
        self.notes: list[str] = []
        self.end_ns = 0  # time of the newest datum that was processed
        self._sources = sources
        self._failures: list[str] = []
        jumps = Jumps()  # of one file, or of one file for each
        self._video = VideoFile(sources.video, sources.selection, jumps, keep_first=keep_image) if sources.video else None
        shared = jumps if sources.audio == sources.video else Jumps()
        self._audio = AudioFile(sources.audio, sources.selection, shared) if sources.audio else None
        self.readers = [reader for reader in (self._video, self._audio) if reader is not None]
        self._frames = None if self._video is None else self._read(self._video, "camera")
        self._blocks = None if self._audio is None else self._read(self._audio, "microphone")
        self.devices = _device_states(self._frames, self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for reader in self.readers:
            reader.close()

    def _read(self, reader: Iterable[Datum], device: str) -> Iterator[Datum]:
        """Yield the data of one track to its end, or to the point where it fails."""
        is_used = False
        try:
            for datum in reader:
                is_used = True
                yield datum
        except MediaError as error:
            self._failures.append(str(error))
            self.devices[device] = "lost" if is_used else "absent"

    def image(self) -> U8 | None:
        """Return the frame of a source that is one frame without sound, in its full size, uint8 [H, W]; None for all others."""
        if self._video is None or self._frames is None or self._blocks is not None:
            return None
        head = list(itertools.islice(self._frames, 2))
        self._frames = itertools.chain(head, self._frames)
        return self._video.first if len(head) == 1 else None

    def replay(
        self, pipeline: Stages, config: Config, *, pace: Clock | None = None, seconds: float | None = None
    ) -> Iterator[tuple[int, EmotionEvent]]:
        """Yield the event of every tick with its time in ns since the start of the recording.

        Raises MediaError at the end if no track was usable, or if a server or pipe failed.
        """
        tick_ns = int(NS_PER_S / config.fusion.rate_hz)
        frames = self._frames
        if frames is not None and self._blocks is None:
            frames, shown_ns = _show_image(frames, config)
            tick_ns = max(tick_ns, shown_ns)
        until_ns = None if seconds is None else int(seconds * NS_PER_S)
        ticks = Ticks(pipeline, tick_ns, self.devices, pace)
        yield from ticks.run(frames, self._blocks, until_ns)
        self.end_ns = ticks.arrived_ns
        self.check_used(is_limited=seconds is not None)

    def check_used(self, *, is_limited: bool = False) -> None:
        """Add what the tracks report to the notes. Raise MediaError if no track was usable, or a server or pipe failed."""
        is_used = any(reader.counters.frames or reader.counters.samples for reader in self.readers)
        source = self._sources.video or self._sources.audio or ""
        is_lost = len(self._failures) == len(self.readers) and (is_url(source) or is_pipe(source))
        if self._failures and (not is_used or is_lost):
            raise MediaError("; ".join(dict.fromkeys(self._failures)))
        for reader in self.readers:
            self.notes.extend(reader.notes)
        if not (self._failures or is_limited):
            self.notes.extend(unread_notes(self.readers))
        self.notes.extend(dict.fromkeys(self._failures))


def _show_image(frames: Iterator[VideoFrame], config: Config) -> tuple[Iterator[VideoFrame], int]:
    """Return the frames and 0; for a single image, the copies that confirm a face, and the time in ns that they fill."""
    head = list(itertools.islice(frames, 2))
    if len(head) != 1:
        return itertools.chain(head, frames), 0
    period_ns = int(NS_PER_S / config.face.rate_hz) + 1
    count = config.face.tracker.confirm_hits
    times_ns = [head[0].capture_time_ns + index * period_ns for index in range(count)]
    copies = (dataclasses.replace(head[0], capture_time_ns=time_ns, seq=seq) for seq, time_ns in enumerate(times_ns))
    return copies, times_ns[-1] + period_ns


def reproducible(config: Config) -> Config:
    """Fix the settings that a measurement would choose, so that every run is the same."""
    if config.speech.kernel == "auto":
        config = dataclasses.replace(config, speech=dataclasses.replace(config.speech, kernel=REPLAY_KERNEL))
    engine = config.inference
    backend, precision = resolve_auto(engine.backend, engine.precision)
    return dataclasses.replace(config, inference=InferenceConfig(backend, precision, engine.threads))


def _device_states(video: object | None, audio: object | None) -> dict[str, DeviceState]:
    return {"camera": "ok" if video is not None else "absent", "microphone": "ok" if audio is not None else "absent"}


def replay(
    pipeline: Stages,
    video: Iterable[VideoFrame] | None,
    audio: Iterable[AudioBlock] | None,
    *,
    tick_ns: int,
    pace: Clock | None = None,
    until_ns: int | None = None,
) -> Iterator[tuple[int, EmotionEvent]]:
    """Feed frames and sound through the pipeline in the order of their time stamps; yield each event with the time of its tick.

    A recording that is shorter than a tick gives one event, at its end.
    """
    return Ticks(pipeline, tick_ns, _device_states(video, audio), pace).run(video, audio, until_ns)


class Ticks:
    """Processes frames and sound in the order of their time stamps and ticks the pipeline between them.

    The first tick is one interval after `start_ns`. With `pace` it runs in real time on that clock, without it as fast as
    possible; the events are the same. `devices` is read at every tick.
    """

    def __init__(
        self,
        pipeline: Stages,
        tick_ns: int,
        devices: Mapping[str, DeviceState],
        pace: Clock | None = None,
        start_ns: int = 0,
    ) -> None:
        self.arrived_ns = start_ns  # time of the newest datum that was processed
        self._pipeline, self._devices = pipeline, devices
        self._tick_ns, self._first_ns, self._due_ns = tick_ns, start_ns + tick_ns, start_ns + tick_ns
        self._pace = pace
        self._offset_ns = pace.now_ns() if pace else 0
        self._is_empty = True

    def run(
        self, video: Iterable[VideoFrame] | None, audio: Iterable[AudioBlock] | None, until_ns: int | None = None
    ) -> Iterator[tuple[int, EmotionEvent]]:
        """Process all data up to a time; yield every event with the time of its tick."""
        for arrived_ns, datum in _in_order(video, audio):
            if until_ns is not None and arrived_ns > until_ns:
                self.arrived_ns = until_ns
                break
            yield from self.push(arrived_ns, datum)
        yield from self.finish()

    def push(self, arrived_ns: int, datum: VideoFrame | AudioBlock) -> Iterator[tuple[int, EmotionEvent]]:
        """Yield the events of the ticks before a datum, then process the datum, which was complete at `arrived_ns`."""
        yield from self._until(arrived_ns - 1)
        self.arrived_ns, self._is_empty = arrived_ns, False
        if self._pace:
            self._pace.sleep_until_ns(self._offset_ns + arrived_ns)
        if isinstance(datum, VideoFrame):
            self._pipeline.process_frame(datum)
            self._pipeline.search_new_faces(datum)
        else:
            self._pipeline.process_audio(datum)

    def finish(self) -> Iterator[tuple[int, EmotionEvent]]:
        """Yield the events up to the end of the data; one event, if the data is shorter than a tick."""
        yield from self._until(self.arrived_ns)
        if self._due_ns == self._first_ns and not self._is_empty:
            yield self.arrived_ns, self._pipeline.tick(self.arrived_ns, self._devices)

    def _until(self, now_ns: int) -> Iterator[tuple[int, EmotionEvent]]:
        while self._due_ns <= now_ns:
            if self._pace:
                self._pace.sleep_until_ns(self._offset_ns + self._due_ns)
            yield self._due_ns, self._pipeline.tick(self._due_ns, self._devices)
            self._due_ns += self._tick_ns


def _in_order(
    video: Iterable[VideoFrame] | None, audio: Iterable[AudioBlock] | None
) -> Iterator[tuple[int, VideoFrame | AudioBlock]]:
    """Merge frames and sound by the time at which they were complete; sound first where the times are equal."""
    frames: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((f.capture_time_ns, 1, f) for f in video or ())
    blocks: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((b.end_time_ns, 0, b) for b in audio or ())
    for time_ns, _, datum in heapq.merge(frames, blocks, key=lambda item: item[:2]):
        yield time_ns, datum
