"""Options of one `moodring run`, and the configuration and sources that follow from them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moodring import config as configuration
from moodring.address import is_recording
from moodring.capture.selection import DEFAULT_SELECTION, RawAudio, Selection
from moodring.config import Config, InputConfig, VideoConfig
from moodring.errors import BundleError, ConfigError, MoodringError, UsageError
from moodring.inference.bundle import Bundle, load_configured
from moodring.run.sources import Sources, choose_sources, choose_stream


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command line of `moodring run`. Options that are given replace those of the configuration."""

    source: str | None = None
    config: Path | None = None
    settings: Sequence[str] = ()  # KEY=VALUE
    video: str | None = None
    audio: str | None = None
    events: str | None = None
    seconds: float | None = None
    pace: Literal["realtime", "max"] = "realtime"
    page: bool = False
    page_port: int | None = None
    preview: bool = False
    video_track: int | None = None
    audio_track: int | None = None
    frame_rate: float | None = None
    raw_audio: str | None = None  # FORMAT:RATE:CHANNELS

    @property
    def selection(self) -> Selection:
        """What these options choose of the source. Raises UsageError."""
        raw_audio = None if self.raw_audio is None else RawAudio.parse(self.raw_audio)
        return Selection(self.video_track, self.audio_track, self.frame_rate, raw_audio)


def read_configuration(options: RunOptions) -> Config:
    """Return the configuration of the file, the environment and the options; the later replace the earlier.

    Raises UsageError or ConfigError.
    """
    config = configuration.read(options.config, options.settings, os.environ)
    if options.source and (options.video or options.audio):
        raise UsageError("name either one SOURCE, or --video and --audio, not both")
    if config.streams and (options.video or options.audio):
        raise UsageError(
            f"{options.config or 'the configuration'} defines streams: set their video and audio there, not on the command line"
        )
    events, video, audio = (
        _path_option(flag, value)
        for flag, value in (("--events", options.events), ("--video", options.video), ("--audio", options.audio))
    )
    if events:
        config = dataclasses.replace(config, events=dataclasses.replace(config.events, path=events))
    if video:
        config = dataclasses.replace(config, video=dataclasses.replace(config.video, source=video))
    if audio:
        config = dataclasses.replace(config, audio=InputConfig(audio))
    if options.page or options.page_port is not None:
        port = config.page.port if options.page_port is None else options.page_port
        config = dataclasses.replace(config, page=dataclasses.replace(config.page, enabled=True, port=port))
    if options.preview and not config.page.enabled:
        raise UsageError("--preview shows the camera image on the page: add --page")
    if video and not audio and is_recording(video):
        config = dataclasses.replace(config, audio=InputConfig("none"))
    if audio and not video and is_recording(audio):
        config = dataclasses.replace(config, video=VideoConfig("none"))
    return config


def _path_option(flag: str, value: str | None) -> str | None:
    """Return the value of an option that can be a path, as the key of the configuration that it replaces is read."""
    try:
        return configuration.expand_home(value) if value else value
    except ValueError as error:
        raise UsageError(f"{flag} {error}") from error


def load_bundle(config: Config, options: RunOptions) -> Bundle:
    """Return the bundle that the configuration names. Raises BundleError or UsageError."""
    try:
        return load_configured(config.bundle, config.bundle_key)
    except BundleError as error:
        raise with_place(error, options, "bundle") from error


def with_place(error: MoodringError, options: RunOptions, key: str | None = None) -> MoodringError:
    """Return an error about a key with the file and line, the option or the variable that sets the key; others unchanged.

    Without `key`, the message must start with it.
    """
    return configuration.with_place(error, options.config, options.settings, os.environ, key)


@contextlib.contextmanager
def naming_places(options: RunOptions) -> Iterator[None]:
    """Add the place of the key to the errors that the parts of a run raise about a key."""
    try:
        yield
    except ConfigError as error:
        raise with_place(error, options) from error


def select_sources(options: RunOptions, config: Config, bundle: Bundle, log: Callable[[str], None]) -> dict[str, Sources]:
    """Return the sources of each stream by its name. A recording is always the only stream."""
    selection = options.selection
    if config.streams and options.source is None:
        if selection != DEFAULT_SELECTION:
            raise UsageError(
                f"{options.config or 'the configuration'} defines streams: --video-track, --audio-track, --frame-rate and "
                "--raw-audio choose from one source; name a SOURCE, or leave them out"
            )
        streams = {name: choose_stream(name, stream, log) for name, stream in config.streams.items()}
        return {name: _drop_absent_branches(sources, bundle, log) for name, sources in streams.items()}
    sources = _drop_absent_branches(choose_sources(options.source, config, log, selection), bundle, log)
    return {"live" if sources.live else sources.title: sources}


def _drop_absent_branches(sources: Sources, bundle: Bundle, log: Callable[[str], None]) -> Sources:
    """Drop the sources for which the bundle has no network."""
    video, audio = (
        source if branch in bundle.models else None for branch, source in (("face", sources.video), ("speech", sources.audio))
    )
    for what, wanted, used in (("video", sources.video, video), ("sound", sources.audio, audio)):
        if wanted and not used:
            log(f"bundle {bundle.name} has no network for {what}: continuing without {what}")
    if video is None and audio is None:
        raise UsageError(
            f"bundle {bundle.name} has networks for {' and '.join(bundle.models)} only, and the source has no such data"
        )
    return dataclasses.replace(sources, video=video, audio=audio)
