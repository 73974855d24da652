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
from moodring.config import Config, InferenceConfig, SpeechConfig
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
from moodring.types import AudioBlock, DeviceState, EmotionEvent, VideoFrame

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
    config = _reproducible(config)
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
        recording = stack.enter_context(_Recording(sources))
        counters.readers, counters.notes = [reader.counters for reader in recording.readers], recording.notes
        tick_ns = int(NS_PER_S / config.fusion.rate_hz)
        frames = recording.frames
        if frames is not None and sources.audio is None:
            frames, shown_ns = _show_image(frames, config)
            tick_ns = max(tick_ns, shown_ns)
        replay(
            pipeline,
            frames,
            recording.blocks,
            lambda event: distributor.publish(preview.mark(event) if preview else event),
            tick_ns=tick_ns,
            pace=clock if options.pace == "realtime" else None,
            until_ns=None if options.seconds is None else int(options.seconds * NS_PER_S),
            devices=recording.devices,
        )
        recording.check_used(is_limited=options.seconds is not None)


class _Recording:
    """The tracks of a recording. A track that fails ends alone: `notes` says why, and `devices` shows it."""

    def __init__(self, sources: Sources) -> None:
        self.notes: list[str] = []
        self._sources = sources
        self._failures: list[str] = []
        jumps = Jumps()  # of one file, or of one file for each
        self._video = VideoFile(sources.video, sources.selection, jumps) if sources.video else None
        shared = jumps if sources.audio == sources.video else Jumps()
        self._audio = AudioFile(sources.audio, sources.selection, shared) if sources.audio else None
        self.readers = [reader for reader in (self._video, self._audio) if reader is not None]
        self.frames = None if self._video is None else self._read(self._video, "camera")
        self.blocks = None if self._audio is None else self._read(self._audio, "microphone")
        self.devices = _device_states(self.frames, self.blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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

    def check_used(self, *, is_limited: bool) -> None:
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


def _reproducible(config: Config) -> Config:
    """Fix the settings that a measurement would choose, so that every run is the same."""
    if config.speech.kernel == "auto":
        config = dataclasses.replace(config, speech=SpeechConfig(REPLAY_KERNEL))
    engine = config.inference
    backend, precision = resolve_auto(engine.backend, engine.precision)
    return dataclasses.replace(config, inference=InferenceConfig(backend, precision, engine.threads))


def _device_states(video: object | None, audio: object | None) -> dict[str, DeviceState]:
    return {"camera": "ok" if video is not None else "absent", "microphone": "ok" if audio is not None else "absent"}


def replay(
    pipeline: Stages,
    video: Iterable[VideoFrame] | None,
    audio: Iterable[AudioBlock] | None,
    publish: Callable[[EmotionEvent], None],
    *,
    tick_ns: int,
    pace: Clock | None = None,
    until_ns: int | None = None,
    devices: Mapping[str, DeviceState] | None = None,
) -> None:
    """Feed recordings through the pipeline in the order of their time stamps and publish an event at every tick.

    A recording that is shorter than a tick gives one event, at its end. With `pace` the replay runs in real time on that clock,
    without it as fast as possible. The events are the same. `devices` is read at every tick; by default all are in order.
    """
    states = _device_states(video, audio) if devices is None else devices
    start_ns = pace.now_ns() if pace else 0
    due_ns = tick_ns

    def tick_until(now_ns: int) -> None:
        nonlocal due_ns
        while due_ns <= now_ns:
            if pace:
                pace.sleep_until_ns(start_ns + due_ns)
            publish(pipeline.tick(due_ns, states))
            due_ns += tick_ns

    arrived_ns = 0
    is_empty = True
    for arrived_ns, datum in _in_order(video, audio):
        if until_ns is not None and arrived_ns > until_ns:
            break
        is_empty = False
        tick_until(arrived_ns - 1)
        if pace:
            pace.sleep_until_ns(start_ns + arrived_ns)
        if isinstance(datum, VideoFrame):
            pipeline.process_frame(datum)
            pipeline.search_new_faces(datum)
        else:
            pipeline.process_audio(datum)
    end_ns = arrived_ns if until_ns is None else min(arrived_ns, until_ns)
    tick_until(end_ns)
    if due_ns == tick_ns and not is_empty:
        publish(pipeline.tick(end_ns, states))


def _in_order(
    video: Iterable[VideoFrame] | None, audio: Iterable[AudioBlock] | None
) -> Iterator[tuple[int, VideoFrame | AudioBlock]]:
    """Merge frames and sound by the time at which they were complete; sound first where the times are equal."""
    frames: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((f.capture_time_ns, 1, f) for f in video or ())
    blocks: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((b.end_time_ns, 0, b) for b in audio or ())
    for time_ns, _, datum in heapq.merge(frames, blocks, key=lambda item: item[:2]):
        yield time_ns, datum
