"""Options of one `moodring run`, and the configuration and sources that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moodring import config as configuration
from moodring.config import Config, InputConfig
from moodring.errors import UsageError
from moodring.inference.bundle import Bundle
from moodring.run.sources import Sources, choose_sources, choose_stream, is_recording


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command line of `moodring run`. Options that are given replace those of the configuration file."""

    source: str | None = None
    config: Path | None = None
    video: str | None = None
    audio: str | None = None
    events: str | None = None
    seconds: float | None = None
    pace: Literal["realtime", "max"] = "realtime"
    page: bool = False
    page_port: int | None = None
    preview: bool = False


def read_configuration(options: RunOptions) -> Config:
    """Return the configuration file with the options applied. Raises UsageError or ConfigError."""
    config = configuration.load(options.config) if options.config else Config()
    if options.source and (options.video or options.audio):
        raise UsageError("name either one SOURCE, or --video and --audio, not both")
    if config.streams and (options.video or options.audio):
        raise UsageError(f"{options.config} defines streams: set their video and audio there, not on the command line")
    if options.events:
        config = dataclasses.replace(config, events=dataclasses.replace(config.events, path=options.events))
    if options.video:
        config = dataclasses.replace(config, video=InputConfig(options.video))
    if options.audio:
        config = dataclasses.replace(config, audio=InputConfig(options.audio))
    if options.page or options.page_port is not None:
        port = config.page.port if options.page_port is None else options.page_port
        config = dataclasses.replace(config, page=dataclasses.replace(config.page, enabled=True, port=port))
    if options.preview and not config.page.enabled:
        raise UsageError("--preview shows the camera image on the page: add --page")
    if options.video and not options.audio and is_recording(options.video):
        config = dataclasses.replace(config, audio=InputConfig("none"))
    if options.audio and not options.video and is_recording(options.audio):
        config = dataclasses.replace(config, video=InputConfig("none"))
    return config


def select_sources(source: str | None, config: Config, bundle: Bundle, log: Callable[[str], None]) -> dict[str, Sources]:
    """Return the sources of each stream by its name. A recording is always the only stream."""
    if config.streams and source is None:
        streams = {name: choose_stream(name, stream, log) for name, stream in config.streams.items()}
        return {name: _drop_absent_branches(sources, bundle, log) for name, sources in streams.items()}
    sources = _drop_absent_branches(choose_sources(source, config, log), bundle, log)
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
