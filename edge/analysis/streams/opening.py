"""`moodring.open_stream`: the one function that opens a stream of events."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from typing import Literal, overload

from moodring.analysis.models import Models, choose_models
from moodring.analysis.streams.events import DeviceStream, RecordingStream
from moodring.analysis.streams.feed import DEVICES, Feed, FeedStream
from moodring.capture.camera import open_camera
from moodring.clock import MonotonicClock
from moodring.config import Config
from moodring.errors import DeviceError, UsageError
from moodring.pipeline import Pipeline
from moodring.redaction import without_credentials
from moodring.run.identity import live_identity, name_events
from moodring.run.options import RunOptions, select_sources
from moodring.run.replay import Recording
from moodring.run.sources import SAMPLE_CLIP, Sources, open_microphone
from moodring.run.stream import Stream

Pace = Literal["realtime", "max"]
Log = Callable[[str], None]


@overload
def open_stream(
    config: Config | None = None,
    *,
    feed: Feed,
    models: Models | None = None,
) -> FeedStream: ...


@overload
def open_stream(
    config: Config | None = None,
    *,
    source: str | os.PathLike[str],
    pace: Pace = "realtime",
    models: Models | None = None,
    log: Log | None = None,
) -> RecordingStream: ...


@overload
def open_stream(
    config: Config | None = None, *, pace: Pace = "realtime", models: Models | None = None, log: Log | None = None
) -> DeviceStream | RecordingStream: ...


def open_stream(
    config: Config | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    feed: Feed | None = None,
    pace: Pace = "realtime",
    models: Models | None = None,
    log: Log | None = None,
) -> DeviceStream | RecordingStream | FeedStream:
    """Open a stream of events and return it; use it in a `with` block.

    Without `source` and `feed`, it is that of the camera and the microphone that the configuration names (`video.source`,
    `audio.source`; by default those of this machine), in real time. If it names a recording, this is replayed. `source` is a
    recording, a pipe or a URL, which is read in real time or, with pace="max", as fast as its events are read. With `feed` the
    caller pushes "video", "audio" or "both" (`FeedStream`).

    `config` has the same keys as for `moodring run` (`load_config`), but sinks, streams, mute and page are not used: the events
    go to the caller alone. The networks are the same for live streams and recordings, so `auto` is ONNX Runtime with float32.
    `models` shares loaded networks between streams. `log` is called with each message about devices; by default they go to the
    logger `moodring` of the package logging, with the level INFO.

    Raises DeviceError without any device, UsageError or ConfigError for settings that do not fit, MediaError for a recording
    that cannot be opened, BundleError or BackendError for the networks. No signal handler is installed, and nothing is printed.
    OpenCV runs in one thread until the stream is closed.
    """
    if feed is not None and source is not None:
        raise UsageError("give either source or feed")
    if feed is not None and feed not in DEVICES:
        raise UsageError(f"feed must be one of {', '.join(DEVICES)}, got {feed!r}")
    if pace not in ("realtime", "max"):
        raise UsageError(f"pace must be 'realtime' or 'max', got {pace!r}")
    config, models = choose_models(config, models)
    if feed is not None:
        return _open_feed(config, models, feed)
    message = _redacted(log or logging.getLogger("moodring").info)
    sources = _select(None if source is None else os.fspath(source), config, models, message)
    if sources.live:
        return _open_devices(config, models, sources, message)
    pipeline = Pipeline(config, models.bundle, name_events(sources, config, models.bundle.id), models.networks)
    return RecordingStream(pipeline, Recording(sources), config, in_real_time=pace == "realtime").open()


def _redacted(log: Log) -> Log:
    return lambda message: log(without_credentials(message))


def _select(source: str | None, config: Config, models: Models, log: Log) -> Sources:
    if source is None and config.streams:
        raise UsageError(
            "the configuration defines several streams: open one for each, with video and audio of the stream in the "
            "configuration and streams empty"
        )
    (sources,) = select_sources(RunOptions(source=source), config, models.bundle, log).values()
    if source is None and sources.video == str(SAMPLE_CLIP) != config.video.source:  # what `moodring run` shows instead
        raise DeviceError("this machine has no camera and no microphone; name a source, or feed the stream")
    return sources


def _open_devices(config: Config, models: Models, sources: Sources, log: Log) -> DeviceStream:
    clock = MonotonicClock()
    pipeline = Pipeline(config, models.bundle, live_identity("live", clock.now_ns()), models.networks)
    devices = Stream(
        pipeline,
        open_camera(sources.video, snapshot_hz=sources.camera.snapshot_hz) if sources.video else None,
        open_microphone(sources.audio) if sources.audio else None,
        clock,
        log,
        frozen_s=sources.camera.frozen_s,
    )
    return DeviceStream(pipeline, devices, config).open()


def _open_feed(config: Config, models: Models, feed: Feed) -> FeedStream:
    """Return a stream whose events have the time of day of the first datum as it is pushed."""
    first_ns: list[int] = []
    opened = live_identity("feed", 0)

    def utc(time_ns: int) -> str:
        if not first_ns:
            first_ns.append(time_ns)
        return opened.utc(time_ns - first_ns[0])

    identity = dataclasses.replace(opened, utc=utc)
    return FeedStream(Pipeline(config, models.bundle, identity, models.networks), config, feed).open()
