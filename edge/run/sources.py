"""Sources of video and sound: a file or URL that is named, the devices of this machine, or the bundled clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moodring.address import DEVICE_NAMES, check_path, is_recording, is_url
from moodring.capture.base import LiveAudioSource
from moodring.capture.camera import default_camera
from moodring.capture.microphone import Microphone, default_microphone
from moodring.capture.network import NetworkMicrophone
from moodring.capture.selection import DEFAULT_SELECTION, Selection
from moodring.config import Config, StreamConfig, VideoConfig
from moodring.errors import ConfigError, UsageError, printable
from moodring.redaction import without_credentials

SAMPLE_CLIP = Path(__file__).resolve().parents[1] / "samples" / "clip.mp4"
MEDIA_SUFFIXES = frozenset({
    ".aac", ".avi", ".flac", ".m4a", ".m4v", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".ogg", ".opus", ".ts", ".wav",
    ".webm", ".wma", ".wmv",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sources:
    """Where video and sound come from; None where there is none. Recordings are replayed, devices are live."""

    video: str | None
    audio: str | None
    live: bool
    title: str
    camera: VideoConfig = VideoConfig()  # the settings of a live camera
    selection: Selection = DEFAULT_SELECTION


def _means_file(named: str, may_be_device_name: bool) -> bool:
    """Return whether a source can only be a file. A microphone may have any name that does not look like a media file."""
    if named in DEVICE_NAMES or named.isdigit() or named.startswith("/dev/") or is_url(named):
        return False
    return not may_be_device_name or "/" in named or Path(named).suffix.lower() in MEDIA_SUFFIXES


def choose_sources(
    source: str | None, config: Config, log: Callable[[str], None], selection: Selection = DEFAULT_SELECTION
) -> Sources:
    """Return the named recording or stream, else the configured inputs, the devices of this machine, or the bundled clip."""
    if source is not None:
        from moodring.capture.media import probe  # noqa: PLC0415  PyAV is large, and devices need none of it

        info = probe(source, selection)
        return Sources(
            source if info.has_video else None,
            source if info.has_audio else None,
            live=False,
            title=printable(source),
            selection=selection,
        )
    video, audio = config.video.source, config.audio.source
    if video == audio == "none":
        raise UsageError("video and audio are both none: name at least one of --video and --audio")
    for named, may_be_device_name in ((video, False), (audio, True)):
        if _means_file(named, may_be_device_name):
            check_path(named)
    if is_recording(video) or is_recording(audio):
        return Sources(
            video if is_recording(video) else None,
            audio if is_recording(audio) else None,
            live=False,
            title="recording",
            selection=selection,
        )
    found = _devices(video, audio)
    if found == (None, None):
        log("this machine has no camera and no microphone; playing the bundled clip instead")
        return Sources(str(SAMPLE_CLIP), str(SAMPLE_CLIP), live=False, title="bundled clip")
    live = _live("live", video, audio, found, log)
    return dataclasses.replace(live, camera=config.video, selection=selection)


def choose_stream(name: str, stream: StreamConfig, log: Callable[[str], None]) -> Sources:
    """Return the sources of one of several streams, which must be live. Raises ConfigError for a recording."""
    video, audio = stream.video.source, stream.audio.source
    for named in (video, audio):
        if is_recording(named):
            raise ConfigError(
                f"streams.{name}: {printable(named)} is a recording, and streams must be live; replay it with `moodring run`"
            )
    return dataclasses.replace(_live(name, video, audio, _devices(video, audio), log), camera=stream.video)


def _devices(video: str, audio: str) -> tuple[str | None, str | None]:
    """Return the camera and the microphone; None where there is none."""
    camera = default_camera() if video == "default" else None if video == "none" else video
    microphone = default_microphone() if audio == "default" else None if audio == "none" else audio
    return camera, microphone


def _live(
    title: str, video: str, audio: str, found: tuple[str | None, str | None], log: Callable[[str], None]
) -> Sources:  # fmt: skip
    camera, microphone = found
    for what, named, device in (("camera", video, camera), ("microphone", audio, microphone)):
        if device is None and named == "default":
            log(f"{'' if title == 'live' else title + ': '}this machine has no {what}; continuing without")
    if microphone is not None and audio == "default":
        microphone = "default"
    which = "" if title == "live" else f" as {title!r}"
    shown = " and ".join(
        f"{what} {without_credentials(device or '-')}" for what, device in (("camera", camera), ("microphone", microphone))
    )
    log(f"recognising expression from {shown}{which}; nothing is stored")
    return Sources(camera, microphone, live=True, title=title)


def open_microphone(source: str, track: int | None = None) -> LiveAudioSource:
    """Return the microphone or network stream that a source names. It is not open yet. `track` is that of a URL."""
    return NetworkMicrophone(source, track=track) if is_url(source) else Microphone(source)
