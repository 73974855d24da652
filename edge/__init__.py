"""moodring: streaming recognition of facial and vocal expression, fused into events.

The public API. Names are imported on first use, so that `import moodring` is fast:

    import moodring
    print(moodring.analyze("clip.mp4").summary)

docs/library.md explains it, docs/api.md lists every name.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moodring.analysis.api import analyze, analyze_image, analyze_sound
    from moodring.analysis.models import Models, load_models
    from moodring.analysis.result import Analysis
    from moodring.analysis.row import Row
    from moodring.analysis.streams.events import DeviceStream, EventStream, RecordingStream
    from moodring.analysis.streams.feed import FeedStream
    from moodring.analysis.streams.opening import open_stream
    from moodring.analysis.summary import Summary
    from moodring.config import Config
    from moodring.config import load as load_config
    from moodring.errors import (
        BackendError,
        BundleError,
        ConfigError,
        DataError,
        DeviceError,
        EventError,
        ExportError,
        MediaError,
        MoodringError,
        PublishError,
        UsageError,
    )
    from moodring.inference.bundle import Bundle
    from moodring.inference.bundle import load as load_bundle
    from moodring.labels import LABELS
    from moodring.pipeline import Pipeline
    from moodring.types import BranchView, EmotionEvent, Face, StatusEvent

# Libraries that moodring loads report their use over the network, unless this is set before they are imported. These are their
# strictest values, and subprocesses inherit them (docs/privacy.md). OpenVINO and NNCF report through a package that they do
# without; it has no other switch.
os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1", "DO_NOT_TRACK": "1"}
if "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

__version__: str

__all__ = [
    "LABELS",
    "Analysis",
    "BackendError",
    "BranchView",
    "Bundle",
    "BundleError",
    "Config",
    "ConfigError",
    "DataError",
    "DeviceError",
    "DeviceStream",
    "EmotionEvent",
    "EventError",
    "EventStream",
    "ExportError",
    "Face",
    "FeedStream",
    "MediaError",
    "Models",
    "MoodringError",
    "Pipeline",
    "PublishError",
    "RecordingStream",
    "Row",
    "StatusEvent",
    "Summary",
    "UsageError",
    "analyze",
    "analyze_image",
    "analyze_sound",
    "load_bundle",
    "load_config",
    "load_models",
    "open_stream",
]

# Where each name is defined: (module, name there). All others are in `errors`.
_DEFINITIONS = {
    "LABELS": ("labels", "LABELS"),
    "Analysis": ("analysis.result", "Analysis"),
    **{name: ("analysis.streams.events", name) for name in ("DeviceStream", "EventStream", "RecordingStream")},
    "FeedStream": ("analysis.streams.feed", "FeedStream"),
    "Models": ("analysis.models", "Models"),
    "Row": ("analysis.row", "Row"),
    "Summary": ("analysis.summary", "Summary"),
    **{name: ("analysis.api", name) for name in ("analyze", "analyze_image", "analyze_sound")},
    "load_models": ("analysis.models", "load_models"),
    "open_stream": ("analysis.streams.opening", "open_stream"),
    "Bundle": ("inference.bundle", "Bundle"),
    "Config": ("config", "Config"),
    "Pipeline": ("pipeline", "Pipeline"),
    "load_bundle": ("inference.bundle", "load"),
    "load_config": ("config", "load"),
    **{name: ("types", name) for name in ("BranchView", "EmotionEvent", "Face", "StatusEvent")},
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in __all__:
        raise AttributeError(f"module 'moodring' has no attribute {name!r}")
    module, attribute = _DEFINITIONS.get(name, ("errors", name))
    return getattr(importlib.import_module(f"moodring.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  takes longer than all other imports

    try:
        return version("moodring")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
