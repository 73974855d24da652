"""Replay of recordings through a pipeline in the order of their time stamps: no threads, and the same events every time."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from moodring.capture.base import AudioSource, VideoSource
from moodring.capture.media import AudioFile, VideoFile
from moodring.clock import NS_PER_S, Clock, MonotonicClock
from moodring.config import Config, InferenceConfig, SpeechConfig
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
        video = stack.enter_context(VideoFile(sources.video)) if sources.video else None
        audio = stack.enter_context(AudioFile(sources.audio)) if sources.audio else None
        counters.readers = [reader.counters for reader in (video, audio) if reader is not None]
        replay(
            pipeline,
            video,
            audio,
            lambda event: distributor.publish(preview.mark(event) if preview else event),
            tick_ns=int(NS_PER_S / config.fusion.rate_hz),
            pace=clock if options.pace == "realtime" else None,
            until_ns=None if options.seconds is None else int(options.seconds * NS_PER_S),
        )


def _reproducible(config: Config) -> Config:
    """Fix the settings that a measurement would choose, so that every run is the same."""
    if config.speech.kernel == "auto":
        config = dataclasses.replace(config, speech=SpeechConfig(REPLAY_KERNEL))
    engine = config.inference
    backend, precision = resolve_auto(engine.backend, engine.precision)
    return dataclasses.replace(config, inference=InferenceConfig(backend, precision, engine.threads))


def replay(
    pipeline: Stages,
    video: VideoSource | None,
    audio: AudioSource | None,
    publish: Callable[[EmotionEvent], None],
    *,
    tick_ns: int,
    pace: Clock | None = None,
    until_ns: int | None = None,
) -> None:
    """Feed recordings through the pipeline in the order of their time stamps and publish an event at every tick.

    With `pace` the replay runs in real time on that clock, without it as fast as possible. The events are the same.
    """
    devices: dict[str, DeviceState] = {
        "camera": "ok" if video is not None else "absent",
        "microphone": "ok" if audio is not None else "absent",
    }
    start_ns = pace.now_ns() if pace else 0
    due_ns = tick_ns

    def tick_until(now_ns: int) -> None:
        nonlocal due_ns
        while due_ns <= now_ns:
            if pace:
                pace.sleep_until_ns(start_ns + due_ns)
            publish(pipeline.tick(due_ns, devices))
            due_ns += tick_ns

    arrived_ns = 0
    for arrived_ns, datum in _in_order(video, audio):
        if until_ns is not None and arrived_ns > until_ns:
            break
        tick_until(arrived_ns - 1)
        if pace:
            pace.sleep_until_ns(start_ns + arrived_ns)
        if isinstance(datum, VideoFrame):
            pipeline.process_frame(datum)
            pipeline.search_new_faces(datum)
        else:
            pipeline.process_audio(datum)
    tick_until(arrived_ns if until_ns is None else min(arrived_ns, until_ns))


def _in_order(video: VideoSource | None, audio: AudioSource | None) -> Iterator[tuple[int, VideoFrame | AudioBlock]]:
    """Merge frames and sound by the time at which they were complete; sound first where the times are equal."""
    frames: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((f.capture_time_ns, 1, f) for f in video or ())
    blocks: Iterable[tuple[int, int, VideoFrame | AudioBlock]] = ((b.end_time_ns, 0, b) for b in audio or ())
    for time_ns, _, datum in heapq.merge(frames, blocks, key=lambda item: item[:2]):
        yield time_ns, datum
