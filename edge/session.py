"""`moodring run`: from arguments to sources, a pipeline, publishers, and a summary at the end."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import hashlib
import re
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge import config as configuration
from edge.capture.camera import Camera, default_camera
from edge.capture.media import AudioFile, MediaCounters, VideoFile, check_path, is_url, probe
from edge.capture.microphone import Microphone, default_microphone
from edge.clock import NS_PER_S, MonotonicClock
from edge.config import Config, InferenceConfig
from edge.errors import UsageError, without_credentials
from edge.features.spectrum import KernelName
from edge.inference import bundle as bundles
from edge.inference import tuning
from edge.inference.bundle import Bundle
from edge.inference.forms import resolved
from edge.pipeline import EventIdentity, Pipeline
from edge.runtime import LiveRun, replay
from edge.service.control import listen_to_signals, watched
from edge.sinks import Offers, Stream, open_sinks
from edge.telemetry import Stages, Telemetry, Timed, added

SAMPLE_CLIP = Path(__file__).resolve().parent / "samples" / "clip.mp4"
MEDIA_SUFFIXES = frozenset({
    ".aac", ".avi", ".flac", ".m4a", ".m4v", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".ogg", ".opus", ".ts", ".wav",
    ".webm", ".wma", ".wmv",
})  # fmt: skip
REPLAY_KERNEL: KernelName = "cv2"
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def log(message: str) -> None:
    """Say something to people, on standard error."""
    print(f"moodring: {without_credentials(message)}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where picture and sound come from; None is absent. A recording is replayed, a device is live."""

    video: str | None
    audio: str | None
    live: bool
    title: str


def run(arguments: argparse.Namespace) -> int:
    """Run until the sources end, the time is up or the user interrupts; exit code 0 where everything was delivered."""
    cv2.setNumThreads(1)  # pictures this small are not worth waking other cores for
    config = _configured(arguments)
    bundle = bundles.load(bundles.resolve(config.bundle), needed=())
    sources = _without_absent_branches(choose_sources(arguments.source, config), bundle)
    if not sources.live:
        config = _reproducible(config)
    engine = config.inference
    plan, why = tuning.plan(bundle, engine.backend, engine.precision, engine.threads)
    if sources.live:
        log(f"networks: {tuning.describe(plan)} ({why})")
    pipeline = Pipeline(config, bundle, _identity(sources, config, bundle.id), plan)
    tick_ns = int(NS_PER_S / config.fusion.rate_hz)
    clock = MonotonicClock()
    lossy: list[LiveRun | MediaCounters] = []
    telemetry = Telemetry(
        clock,
        counters=lambda: dataclasses.asdict(pipeline.counters) | added(part.captured for part in lossy),
        dropped=lambda: {"frames_above_rate": pipeline.counters.frames_skipped_rate} | added(part.dropped for part in lossy),
        level_dbfs=lambda: pipeline.level_dbfs,
    )
    timed: Stages = Timed(pipeline, telemetry, clock)
    offers = Offers()
    with contextlib.ExitStack() as stack:
        stream = _stream(pipeline, sources, config, arguments)
        if arguments.preview:
            timed = _with_preview(timed, offers, stream)
        publish = open_sinks(
            config, stream, telemetry, clock, stack=stack, log=log, level_dbfs=lambda: pipeline.level_dbfs, offers=offers
        ).publish
        stack.push(lambda kind, _error, _where: _summarise(pipeline, sources, lossy) if _may_summarise(kind) else None)
        if sources.live:
            camera = Camera(sources.video) if sources.video else None
            microphone = Microphone(sources.audio) if sources.audio else None
            live = LiveRun(timed, camera, microphone, clock, log)
            lossy.append(live)
            offers.mutes[stream.name] = live
            listen_to_signals(live, log)
            live.run(watched(publish, live), tick_ns=tick_ns, seconds=arguments.seconds)
            return 0
        video = stack.enter_context(VideoFile(sources.video)) if sources.video else None
        audio = stack.enter_context(AudioFile(sources.audio)) if sources.audio else None
        lossy += [reader.counters for reader in (video, audio) if reader is not None]
        replay(
            timed,
            video,
            audio,
            publish,
            tick_ns=tick_ns,
            pace=clock if arguments.pace == "realtime" else None,
            until_ns=None if arguments.seconds is None else int(arguments.seconds * NS_PER_S),
        )
    return 0


def _without_absent_branches(sources: Sources, bundle: Bundle) -> Sources:
    """Leave closed what the bundle has no network for."""
    video, audio = (
        source if branch in bundle.models else None for branch, source in (("face", sources.video), ("speech", sources.audio))
    )
    for what, wanted, read in (("picture", sources.video, video), ("sound", sources.audio, audio)):
        if wanted and not read:
            log(f"bundle {bundle.name} holds no network for it: going on without {what}")
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


def _with_preview(pipeline: Stages, offers: Offers, stream: Stream) -> Stages:
    """Let the page show what the camera sees, and every event say so."""
    from edge.page.preview import Preview  # noqa: PLC0415  only where the command line asks for it

    preview = Preview(pipeline)
    offers.previews[stream.name] = preview.jpeg
    return preview


def _may_summarise(raised: type[BaseException] | None) -> bool:
    """A failure ends with its own message, and with that alone."""
    return raised is None or issubclass(raised, KeyboardInterrupt)


def _configured(arguments: argparse.Namespace) -> Config:
    config = configuration.load(arguments.config) if arguments.config else Config()
    if arguments.source and (arguments.video or arguments.audio):
        raise UsageError("name either one SOURCE, or --video and --audio, not both")
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
    if arguments.video and not arguments.audio and _is_recording(arguments.video):
        config = dataclasses.replace(config, audio=configuration.InputConfig("none"))
    if arguments.audio and not arguments.video and _is_recording(arguments.audio):
        config = dataclasses.replace(config, video=configuration.InputConfig("none"))
    return config


def _is_recording(source: str) -> bool:
    return Path(source).is_file()


def _means_file(named: str, may_be_a_name: bool) -> bool:
    """Whether what was named can only be a file; a microphone may have any name, but hardly one that looks like a file's."""
    if named in ("default", "none") or named.isdigit() or named.startswith("/dev/") or is_url(named):
        return False
    return not may_be_a_name or "/" in named or Path(named).suffix.lower() in MEDIA_SUFFIXES


def choose_sources(source: str | None, config: Config) -> Sources:
    """Decide what to read: the named recording or stream, the configured inputs, this machine's own, or the bundled clip."""
    if source is not None:
        info = probe(source)
        return Sources(source if info.has_video else None, source if info.has_audio else None, live=False, title=source)
    video, audio = config.video.source, config.audio.source
    if video == audio == "none":
        raise UsageError("neither picture nor sound is wanted: name at least one of --video and --audio")
    for named, may_be_a_name in ((video, False), (audio, True)):
        if _means_file(named, may_be_a_name):
            check_path(named)
    if _is_recording(video) or _is_recording(audio):
        return Sources(
            video if _is_recording(video) else None,
            audio if _is_recording(audio) else None,
            live=False,
            title="recording",
        )
    camera = default_camera() if video == "default" else None if video == "none" else video
    microphone = default_microphone() if audio == "default" else None if audio == "none" else audio
    if camera is None and microphone is None:
        log("there is no camera and no microphone on this machine; playing the bundled clip instead")
        return Sources(str(SAMPLE_CLIP), str(SAMPLE_CLIP), live=False, title="bundled clip")
    for what, named, found in (("camera", video, camera), ("microphone", audio, microphone)):
        if found is None and named == "default":
            log(f"there is no {what} on this machine; going on without")
    if microphone is not None and audio == "default":
        microphone = "default"
    log(f"sensing expression from camera {camera or '-'} and microphone {microphone or '-'}; nothing is stored")
    return Sources(camera, microphone, live=True, title="live")


def _stream(pipeline: Pipeline, sources: Sources, config: Config, arguments: argparse.Namespace) -> Stream:
    on_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: closed before we began
    paced = sources.live or arguments.pace == "realtime"
    from_network = any(source is not None and is_url(source) for source in (sources.video, sources.audio))
    return Stream(
        source=pipeline.source,
        title=without_credentials(sources.title),
        live=sources.live or (from_network and paced),
        paced=paced,
        rate_hz=config.fusion.rate_hz,
        panel=on_terminal and arguments.events != "-",
        labels=pipeline.labels,
    )


def _identity(sources: Sources, config: Config, bundle_id: str) -> EventIdentity:
    """Name a stream's events. In replay everything derives from the input: name, run and time."""
    recorded = [source for source in dict.fromkeys((sources.video, sources.audio)) if source is not None]
    if not sources.live and not any(map(is_url, recorded)):
        d = Config()  # where events go does not change what they say
        config = dataclasses.replace(config, events=d.events, mqtt=d.mqtt, lsl=d.lsl, metrics=d.metrics, page=d.page)
        digest = hashlib.sha256(repr((config, bundle_id)).encode())
        for source in recorded:
            digest.update(_file_digest(Path(source)))
        name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(recorded[0]).name)
        return EventIdentity(f"/moodring/replay/{name}/{digest.hexdigest()[:12]}", lambda ns: _utc_text(0, ns))
    # A device's time is the monotonic clock's; that of a network stream counts from its start.
    offset_ns = time.time_ns() - (time.monotonic_ns() if sources.live else 0)
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()) or "host"
    return EventIdentity(f"/moodring/{host}/live/{uuid.uuid4().hex[:12]}", lambda ns: _utc_text(offset_ns, ns))


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _utc_text(offset_ns: int, time_ns: int) -> str:
    moment = EPOCH + dt.timedelta(microseconds=(offset_ns + time_ns) // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _summarise(pipeline: Pipeline, sources: Sources, lossy: Sequence[LiveRun | MediaCounters]) -> None:
    """Close with a line that accounts for what was captured, and says what was missing."""
    c = pipeline.counters
    log(
        f"{c.events} events ({c.events_with_both} from face and voice together); {c.frames_seen} frames: "
        f"{c.frames_tracked} searched, {c.frames_skipped_rate} skipped above the face rate, {c.faces_read} faces read; "
        f"{c.samples_heard / 16_000:.1f} s of sound: {c.windows_read} windows read"
        + (f", {c.sound_gaps} gaps" if c.sound_gaps else "")
    )
    for what, count in (item for part in lossy for item in part.losses.items()):
        if count:
            log(f"{count} {what}")
    if sources.video and c.frames_tracked and not c.faces_read:
        log("no face was found in any frame")
    if sources.audio and c.samples_heard and not c.windows_read:
        log("nobody was heard to speak")
