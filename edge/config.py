"""The configuration: YAML -> frozen dataclasses. configs/laptop.yaml explains each key.

An unknown key, a wrong type or a value out of range raises ConfigError, which names the file, the key and a similar valid key.
No dictionary of settings leaves this module.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from moodring.capture import mute_schedule as schedule
from moodring.errors import ConfigError
from moodring.features.audio.spectrum import KernelName
from moodring.features.face.tracker import TrackerSettings
from moodring.fusion import Method
from moodring.inference.variants import BackendChoice, PrecisionChoice
from moodring.smoothing import SmoothingSettings
from moodring.types import Fsync, MqttVersion

STREAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
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
}


@dataclass(frozen=True, slots=True)
class InputConfig:
    """A source of video or sound: a file, a URL, a device, `default` (a device of this machine) or `none`."""

    source: str = "default"


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The camera and microphone of one of several streams. All other settings are common to all streams."""

    video: InputConfig = InputConfig("none")
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


@dataclass(frozen=True, slots=True)
class SpeechConfig:
    kernel: KernelName = "auto"


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

    path: str = "-"
    rotate_mb: float = 0.0
    rotate_h: float = 0.0
    keep_files: int = 0
    fsync: Fsync = "never"
    status: bool = False


@dataclass(frozen=True, slots=True)
class SpoolConfig:
    """Where events are stored until the broker acknowledges them; `default` is a file in the user's state folder."""

    path: str = "default"
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
    password_file: str = "none"  # noqa: S105  a path
    ca_file: str = "none"
    certificate_file: str = "none"
    key_file: str = "none"
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
    token_file: str = "default"  # noqa: S105  a path


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. `bundle_key` is a PEM public key that must verify the bundle's signature, or `none`."""

    bundle: str = "default"
    bundle_key: str = "none"
    video: InputConfig = InputConfig()
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


def load(path: Path) -> Config:
    """Return the configuration of a YAML file; missing keys keep their defaults. Raises ConfigError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or an invalid date
        raise ConfigError(f"configuration {path} is not valid YAML: {' '.join(str(error).split())}") from error
    return parse({} if data is None else data, str(path))


def parse(data: object, where: str) -> Config:
    """Return the configuration of parsed YAML. `where` names its file in errors. Raises ConfigError."""
    config = _section(Config, data, "", where)
    assert isinstance(config, Config)  # noqa: S101  for the type checker
    if config.streams and (config.video, config.audio) != (InputConfig(), InputConfig()):
        raise ConfigError(f"{where}: with streams, video and audio belong to each stream; remove them at the top level")
    for device, text in dataclasses.asdict(config.mute).items():
        try:
            schedule.parse_periods(text)
        except ValueError as error:
            raise ConfigError(f"{where}: mute.{device}: {error}") from error
    return config


def _section(kind: type[Any], data: object, prefix: str, where: str) -> Any:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: {prefix.rstrip('.') or 'the configuration'} must be a mapping of keys, got {data!r}")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    values = {}
    for key, value in data.items():
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.4)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known keys: {', '.join(prefix + n for n in names)}"
            raise ConfigError(f"{where}: unknown key {prefix}{key}{hint}")
        values[key] = _value(hints[key], value, prefix + key, where)
    return kind(**values)


def _value(kind: Any, value: object, key: str, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)  # noqa: S101  for the type checker
        return _section(kind, value, key + ".", where)
    if typing.get_origin(kind) is dict:
        return _streams(value, key, where)
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise ConfigError(f"{where}: {key} must be one of {', '.join(map(str, choices))}; got {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where}: {key} must be of type {kind.__name__}, got {value!r}")
    if key in RANGES:
        low, high = RANGES[key]
        if not low <= typing.cast("float", value) <= high:
            raise ConfigError(f"{where}: {key} must lie in {low}..{high}, got {value!r}")
    return value


def _streams(value: object, key: str, where: str) -> dict[str, StreamConfig]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {key} must be a mapping from stream names to their video and audio; got {value!r}")
    streams: dict[str, StreamConfig] = {}
    for name, data in value.items():
        if not (isinstance(name, str) and STREAM_NAME.fullmatch(name)):
            raise ConfigError(f"{where}: {key} must be named with letters, digits, '-', '_' and '.'; got {name!r}")
        streams[name] = _section(StreamConfig, data, f"{key}.{name}.", where)
        if streams[name].video.source == streams[name].audio.source == "none":
            raise ConfigError(f"{where}: {key}.{name} has neither video.source nor audio.source; set at least one")
    return streams
