"""The sections of the configuration as frozen dataclasses, and the ranges of their numbers.

Their `repr` is part of the source of a recording's events (moodring.run.identity).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from moodring.features.audio.spectrum import KernelName
from moodring.features.face.tracker import TrackerSettings
from moodring.fusion import Method
from moodring.inference.variants import BackendChoice, PrecisionChoice
from moodring.smoothing import SmoothingSettings
from moodring.types import Fsync, MqttVersion

LocalPath = Annotated[str, "path"]  # a text that can be the path of a file: `~` at its start is the home directory
# Valid range of each number, (min, max).
RANGES: dict[str, tuple[float, float]] = {
    "events.rotate_mb": (0.0, 100_000.0),
    "events.rotate_h": (0.0, 10_000.0),
    "events.keep_files": (0, 100_000),
    "face.rate_hz": (0.5, 60.0),
    "face.min_quality": (0.0, 1.0),
    "face.tracker.smallest_face": (0.02, 0.9),
    "face.tracker.confirm_hits": (1, 30),
    "face.tracker.hold_s": (0.0, 10.0),
    "face.tracker.rescan_s": (0.1, 60.0),
    "fusion.rate_hz": (0.2, 50.0),
    "fusion.face_stale_s": (0.1, 10.0),
    "fusion.speech_stale_s": (0.5, 10.0),
    "inference.threads": (1, 64),
    "metrics.port": (1, 65_535),
    "mqtt.keepalive_s": (2, 3600),
    "mqtt.spool.max_mb": (0.1, 100_000.0),
    "mqtt.spool.max_age_h": (0.01, 10_000.0),
    "page.port": (0, 65_535),
    "smoothing.time_constant_s": (0.0, 5.0),
    "smoothing.switch_margin": (0.0, 0.5),
    "smoothing.forget_s": (0.1, 60.0),
    "video.snapshot_hz": (0.0, 60.0),
    "video.frozen_s": (0.0, 3600.0),
}


@dataclass(frozen=True, slots=True)
class InputConfig:
    """A source of video or sound: a file, a URL, a device, `default` (a device of this machine) or `none`."""

    source: LocalPath = "default"


@dataclass(frozen=True, slots=True, repr=False)
class VideoConfig(InputConfig):
    """A source of video, and two settings of live cameras; 0 switches each off."""

    snapshot_hz: float = 0.0
    frozen_s: float = 10.0

    def __repr__(self) -> str:
        """Return that of its source alone: the events of a recording do not depend on the settings of cameras."""
        return repr(InputConfig(self.source))


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The camera and microphone of one of several streams. All other settings are common to all streams."""

    video: VideoConfig = VideoConfig("none")
    audio: InputConfig = InputConfig("none")


@dataclass(frozen=True, slots=True)
class MuteConfig:
    """When cameras and microphones are muted: periods of the day, or `none` (moodring.capture.mute_schedule)."""

    camera: str = "none"
    microphone: str = "none"


@dataclass(frozen=True, slots=True)
class FaceConfig:
    rate_hz: float = 15.0
    min_quality: float = 0.1
    tracker: TrackerSettings = TrackerSettings()


@dataclass(frozen=True, slots=True, repr=False)
class SpeechConfig:
    kernel: KernelName = "auto"
    baseline: bool = True

    def __repr__(self) -> str:
        """Leave `baseline` out where it is on: the sources of recordings stay those of the version without it."""
        return f"SpeechConfig(kernel={self.kernel!r}{'' if self.baseline else ', baseline=False'})"


@dataclass(frozen=True, slots=True)
class FusionConfig:
    method: Method = "feature"
    rate_hz: float = 5.0
    face_stale_s: float = 0.5
    speech_stale_s: float = 1.5


@dataclass(frozen=True, slots=True)
class LabelsConfig:
    merge_calm: bool = False


@dataclass(frozen=True, slots=True)
class InferenceConfig:
    """`auto` is the fastest variant that `moodring doctor --tune` measured; without a measurement, a default."""

    backend: BackendChoice = "auto"
    precision: PrecisionChoice = "auto"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class EventsConfig:
    """Destination of JSON lines: a file, `-` for standard output, or `none`."""

    path: LocalPath = "-"
    rotate_mb: float = 0.0
    rotate_h: float = 0.0
    keep_files: int = 0
    fsync: Fsync = "never"
    status: bool = False


@dataclass(frozen=True, slots=True)
class SpoolConfig:
    """Where events are stored until the broker acknowledges them; `default` is a file in the user's state folder."""

    path: LocalPath = "default"
    max_mb: float = 64.0
    max_age_h: float = 168.0
    fsync: bool = False


@dataclass(frozen=True, slots=True)
class HomeAssistantConfig:
    enabled: bool = False
    prefix: str = "homeassistant"


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """The broker: mqtts://HOST[:PORT], mqtt://HOST[:PORT] without TLS, or `none`. Files may be `none`."""

    url: str = "none"
    topic: str = "default"
    client_id: str = "default"
    protocol: MqttVersion = "mqtt5"
    username: str = "none"
    password_file: LocalPath = "none"  # noqa: S105  a path
    ca_file: LocalPath = "none"
    certificate_file: LocalPath = "none"
    key_file: LocalPath = "none"
    keepalive_s: int = 15
    spool: SpoolConfig = SpoolConfig()
    home_assistant: HomeAssistantConfig = HomeAssistantConfig()


@dataclass(frozen=True, slots=True)
class LslConfig:
    enabled: bool = False
    name: str = "moodring"


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = 9464


@dataclass(frozen=True, slots=True)
class PageConfig:
    """The live page. Off loopback it requires the token in `token_file`. `name` is an additional host name that it accepts."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = 8737
    name: str = "none"
    token_file: LocalPath = "default"  # noqa: S105  a path


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. `bundle_key` is a PEM public key that must verify the bundle's signature, or `none`."""

    bundle: LocalPath = "default"
    bundle_key: LocalPath = "none"
    video: VideoConfig = VideoConfig()
    audio: InputConfig = InputConfig()
    streams: dict[str, StreamConfig] = field(default_factory=dict)
    mute: MuteConfig = MuteConfig()
    face: FaceConfig = FaceConfig()
    speech: SpeechConfig = SpeechConfig()
    fusion: FusionConfig = FusionConfig()
    smoothing: SmoothingSettings = SmoothingSettings()
    labels: LabelsConfig = LabelsConfig()
    inference: InferenceConfig = InferenceConfig()
    events: EventsConfig = EventsConfig()
    mqtt: MqttConfig = MqttConfig()
    lsl: LslConfig = LslConfig()
    metrics: MetricsConfig = MetricsConfig()
    page: PageConfig = PageConfig()
