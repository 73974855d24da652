"""`moodring run`: from arguments to a recording that is replayed, or to live streams; and a summary at the end."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable

import cv2

from moodring import config as configuration
from moodring.capture.address import is_url
from moodring.clock import NS_PER_S, Clock, MonotonicClock
from moodring.config import Config, InferenceConfig
from moodring.errors import UsageError, without_credentials
from moodring.features.audio.spectrum import KernelName
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle
from moodring.inference.variants import resolved
from moodring.pipeline import Pipeline
from moodring.run.identity import name_events
from moodring.run.replay import replay
from moodring.run.sinks import Offers, Stream, name_of, open_sinks
from moodring.run.sources import Sources, choose_sources, choose_stream, is_recording
from moodring.run.stream import RunningStream
from moodring.telemetry import Stages, Timed

REPLAY_KERNEL: KernelName = "cv2"


def log(message: str) -> None:
    """Say something to people, on standard error."""
    print(f"moodring: {without_credentials(message)}", file=sys.stderr, flush=True)


def run(arguments: argparse.Namespace) -> int:
    """Run until the sources end, the time is up or the user interrupts; exit code 0 where everything was delivered."""
    cv2.setNumThreads(1)  # pictures this small are not worth waking other cores for
    config = configured(arguments)
    bundle = bundles.load_configured(config.bundle, config.bundle_key)
    sources = chosen(arguments, config, bundle)
    if next(iter(sources.values())).live:
        from moodring.run.live import LiveSession  # noqa: PLC0415  devices, and what reads them

        return LiveSession(arguments, config, bundle, sources, log).run()
    (recording,) = sources.values()
    return _replay(arguments, config, bundle, recording)


def configured(arguments: argparse.Namespace) -> Config:
    """Read the configuration, and what the command line says otherwise."""
    config = configuration.load(arguments.config) if arguments.config else Config()
    if arguments.source and (arguments.video or arguments.audio):
        raise UsageError("name either one SOURCE, or --video and --audio, not both")
    if config.streams and (arguments.video or arguments.audio):
        raise UsageError(f"{arguments.config} names streams: their video and audio stand there, not on the command line")
    if arguments.events:
        config = dataclasses.replace(config, events=dataclasses.replace(config.events, path=arguments.events))
    if arguments.video:
        config = dataclasses.replace(config, video=configuration.InputConfig(arguments.video))
    if arguments.audio:
        config = dataclasses.replace(config, audio=configuration.InputConfig(arguments.audio))
    if arguments.page or arguments.page_port is not None:
        port = config.page.port if arguments.page_port is None else arguments.page_port
        config = dataclasses.replace(config, page=dataclasses.replace(config.page, enabled=True, port=port))
    if arguments.preview and not config.page.enabled:
        raise UsageError("--preview shows the camera's picture on the page: say --page as well")
    if arguments.video and not arguments.audio and is_recording(arguments.video):
        config = dataclasses.replace(config, audio=configuration.InputConfig("none"))
    if arguments.audio and not arguments.video and is_recording(arguments.audio):
        config = dataclasses.replace(config, video=configuration.InputConfig("none"))
    return config


def chosen(
    arguments: argparse.Namespace, config: Config, bundle: Bundle, say: Callable[[str], None] = log
) -> dict[str, Sources]:
    """Return what each stream reads, by the stream's name; a recording stands alone."""
    if config.streams and arguments.source is None:
        streams = {name: choose_stream(name, stream, say) for name, stream in config.streams.items()}
        return {name: _without_absent_branches(sources, bundle, say) for name, sources in streams.items()}
    sources = _without_absent_branches(choose_sources(arguments.source, config, say), bundle, say)
    return {"live" if sources.live else sources.title: sources}


def _without_absent_branches(sources: Sources, bundle: Bundle, say: Callable[[str], None]) -> Sources:
    """Leave closed what the bundle has no network for."""
    video, audio = (
        source if branch in bundle.models else None for branch, source in (("face", sources.video), ("speech", sources.audio))
    )
    for what, wanted, read in (("picture", sources.video, video), ("sound", sources.audio, audio)):
        if wanted and not read:
            say(f"bundle {bundle.name} holds no network for it: going on without {what}")
    if video is None and audio is None:
        raise UsageError(f"bundle {bundle.name} reads only {' and '.join(bundle.models)}, and there is nothing to read of that")
    return dataclasses.replace(sources, video=video, audio=audio)


def _reproducible(config: Config) -> Config:
    """Pin what would be chosen by measuring, and so might differ from run to run."""
    if config.speech.kernel == "auto":
        config = dataclasses.replace(config, speech=configuration.SpeechConfig(REPLAY_KERNEL))
    engine = config.inference
    backend, precision = resolved(engine.backend, engine.precision)
    return dataclasses.replace(config, inference=InferenceConfig(backend, precision, engine.threads))


def _replay(arguments: argparse.Namespace, config: Config, bundle: Bundle, sources: Sources) -> int:
    from moodring.capture.media import AudioFile, VideoFile  # noqa: PLC0415  PyAV is large, and devices need none of it

    config = _reproducible(config)
    clock = MonotonicClock()
    running = RunningStream(sources, Pipeline(config, bundle, name_events(sources, config, bundle.id)), clock)
    with contextlib.ExitStack() as stack:
        stream = describe(running, config, arguments)
        offers = Offers()
        stages = stages_of(running, clock, offers, arguments)
        (publisher,) = open_sinks(config, [(running, stream)], clock, stack=stack, log=log, offers=offers)
        stack.push(lambda kind, _error, _where: running.summarise(log) if may_summarise(kind) else None)
        video = stack.enter_context(VideoFile(sources.video)) if sources.video else None
        audio = stack.enter_context(AudioFile(sources.audio)) if sources.audio else None
        running.readers = [reader.counters for reader in (video, audio) if reader is not None]
        replay(
            stages,
            video,
            audio,
            publisher.publish,
            tick_ns=int(NS_PER_S / config.fusion.rate_hz),
            pace=clock if arguments.pace == "realtime" else None,
            until_ns=None if arguments.seconds is None else int(arguments.seconds * NS_PER_S),
        )
    return 0


def stages_of(running: RunningStream, clock: Clock, offers: Offers, arguments: argparse.Namespace) -> Stages:
    """Return a stream's pipeline, measured; with --preview the page may show what the camera sees, and events say so."""
    timed = Timed(running.pipeline, running.telemetry, clock)
    if not arguments.preview:
        return timed
    from moodring.dashboard.preview import Preview  # noqa: PLC0415  only where the command line asks for it

    preview = Preview(timed)
    offers.previews[name_of(running.pipeline.source)] = preview.jpeg
    return preview


def may_summarise(raised: type[BaseException] | None) -> bool:
    """A failure ends with its own message, and with that alone."""
    return raised is None or issubclass(raised, KeyboardInterrupt)


def describe(running: RunningStream, config: Config, arguments: argparse.Namespace, *, alone: bool = True) -> Stream:
    """Say what the sinks must know of a stream."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: closed before we began
    sources = running.sources
    paced = sources.live or arguments.pace == "realtime"
    from_network = any(source is not None and is_url(source) for source in (sources.video, sources.audio))
    return Stream(
        source=running.pipeline.source,
        title=without_credentials(sources.title),
        live=sources.live or (from_network and paced),
        paced=paced,
        rate_hz=config.fusion.rate_hz,
        panel=on_terminal and alone and arguments.events != "-",
        labels=running.pipeline.labels,
    )
