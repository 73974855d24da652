"""The configuration: YAML, environment and --set -> frozen dataclasses. configs/laptop.yaml explains each key.

A wrong configuration raises ConfigError with every error: its file and line, the key, and what to write. No dictionary of
settings leaves this package.
"""

from moodring.config.overrides import unread_variables
from moodring.config.reading import examine, load, parse, read, with_place
from moodring.config.sections import (
    RANGES,
    Config,
    EventsConfig,
    FaceConfig,
    FusionConfig,
    HomeAssistantConfig,
    InferenceConfig,
    InputConfig,
    LabelsConfig,
    LslConfig,
    MetricsConfig,
    MqttConfig,
    MuteConfig,
    PageConfig,
    SpeechConfig,
    SpoolConfig,
    StreamConfig,
    VideoConfig,
)
from moodring.config.values import expand_home

__all__ = [
    "RANGES",
    "Config",
    "EventsConfig",
    "FaceConfig",
    "FusionConfig",
    "HomeAssistantConfig",
    "InferenceConfig",
    "InputConfig",
    "LabelsConfig",
    "LslConfig",
    "MetricsConfig",
    "MqttConfig",
    "MuteConfig",
    "PageConfig",
    "SpeechConfig",
    "SpoolConfig",
    "StreamConfig",
    "VideoConfig",
    "examine",
    "expand_home",
    "load",
    "parse",
    "read",
    "unread_variables",
    "with_place",
]
