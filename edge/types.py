"""The records that pass through the pipeline, each with the capture time of its newest datum; all times in monotonic ns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from moodring.clock import NS_PER_S
from moodring.errors import EventError

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

EMOTION_V1: Final = "moodring.emotion.v1"
STATUS_V1: Final = "moodring.status.v1"
SAMPLE_RATE_HZ: Final = 16_000  # of all sound after capture

Modality = Literal["face", "speech"]
State = Literal["ok", "no_signal", "no_face", "no_speech"]
Fsync = Literal["never", "second", "always"]
MqttVersion = Literal["mqtt5", "mqtt311"]
DeviceState = Literal["ok", "lost", "frozen", "muted", "absent"]


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame: `grey` uint8 [H, W], scaled down by the factor `reduction`. The face path needs no colour."""

    grey: U8
    capture_time_ns: int
    seq: int
    reduction: int = 1


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """Mono sound: `samples` float32 [N] in [-1, 1]. The capture time is that of the first sample."""

    samples: F32
    capture_time_ns: int
    rate_hz: int = SAMPLE_RATE_HZ

    @property
    def end_time_ns(self) -> int:
        """The capture time of the end of the block."""
        return self.capture_time_ns + self.samples.size * NS_PER_S // self.rate_hz


@dataclass(frozen=True, slots=True)
class Face:
    """A tracked face: box in pixels of its frame, quality in [0, 1]. Track ids are ephemeral and do not identify people.

    In an event the box is in pixels of the captured frame. `age_ns` is the time since the last detection. Above 0, the face is
    held: it was not detected in this frame and cannot be classified.
    """

    id: int
    box_xywh: tuple[int, int, int, int]
    quality: float
    age_ns: int = 0

    @property
    def held(self) -> bool:
        """Whether the face was not detected in this frame."""
        return self.age_ns > 0


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """The primary face, cropped for the face branch: `pixels` uint8 [S, S]."""

    pixels: U8
    capture_time_ns: int
    quality: float


@dataclass(frozen=True, slots=True)
class FeatureWindow:
    """The features of the last seconds of sound for the speech branch: `features` float32 [T, C].

    `voiced` is the share of a full window that contains speech. `settled` in [0, 1) is how far the baseline of the voice has
    moved from the training speakers to this voice; None without a baseline.
    """

    features: F32
    capture_time_ns: int  # of the newest sample in the window
    voiced: float
    settled: float | None = None


@dataclass(frozen=True, slots=True)
class BranchOutput:
    """The output of one branch for one crop or window.

    `probabilities` float32 [n], calibrated, in label order. `embedding` float32 [D] stays in memory and is never published.
    `usable` in [0, 1] is the probability that the input is a face or speech. `quality` in [0, 1] is that of the input,
    `settled` that of the baseline of the voice (see FeatureWindow).
    """

    modality: Modality
    capture_time_ns: int
    probabilities: F32
    embedding: F32
    usable: float
    quality: float = 1.0
    settled: float | None = None


@dataclass(frozen=True, slots=True)
class BranchView:
    """The output of one branch as published in an event."""

    label: str
    probabilities: dict[str, float]
    usable: float
    age_ms: float
    settled: float | None = None


@dataclass(frozen=True, slots=True)
class EmotionEvent:
    """`moodring.emotion.v1`: the fused output at one tick. `label` is None where `state` is not ok.

    `confidence` is the calibrated probability of `label`. `latency_ms` is the time from the newest capture used to the event;
    it is None in replay.
    """

    source: str
    time_utc: str
    seq: int
    capture_time_ns: int
    state: State
    label: str | None
    confidence: float | None
    probabilities: dict[str, float] | None
    modalities: tuple[Modality, ...]
    face: BranchView | None
    speech: BranchView | None
    faces: tuple[Face, ...]
    latency_ms: float | None
    bundle_id: str
    devices: dict[str, DeviceState] = field(default_factory=dict)
    frame_wh: tuple[int, int] | None = None  # size of the captured frame, in the pixels of `faces`
    preview: bool = False  # the page shows the camera image at this time

    @classmethod
    def from_json(cls, text: str | bytes) -> EmotionEvent:
        """Return the event of one JSON line. Fields that a later version added are ignored. Raises EventError."""
        try:
            document = json.loads(text)
            if document["type"] != EMOTION_V1:
                raise EventError(f"not a {EMOTION_V1} event but {document['type']!r}")
            data = document["data"]
            return cls(
                source=document["source"],
                time_utc=document["time"],
                seq=data["seq"],
                capture_time_ns=data["capture_time_ns"],
                state=data["state"],
                label=data["label"],
                confidence=data["confidence"],
                probabilities=data["probabilities"],
                modalities=tuple(data["modalities"]),
                face=_branch_view(data["face"]),
                speech=_branch_view(data["speech"]),
                faces=tuple(Face(face["id"], tuple(face["box_xywh"]), face["quality"]) for face in data["faces"]),
                latency_ms=data["latency_ms"],
                bundle_id=data["bundle_id"],
                devices=data["devices"],
                frame_wh=tuple(data["frame_wh"]) if data.get("frame_wh") else None,
                preview=data.get("preview", False),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EventError(f"not an event of moodring: {error!r}") from error


def _branch_view(view: dict[str, Any] | None) -> BranchView | None:
    if view is None:
        return None
    return BranchView(view["label"], view["probabilities"], view["usable"], view["age_ms"], view.get("settled"))


@dataclass(frozen=True, slots=True)
class EventIdentity:
    """The CloudEvents source of a stream, and a function from monotonic time in ns to UTC text (ISO 8601)."""

    source: str
    utc: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Latency:
    """Duration of one stage over the last second, in ms, from `count` calls."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class SinkState:
    """Counts of the events of one sink: accepted = published + dropped + failed + queued.

    `spooled` events, of this run or an earlier one, are stored on disk until delivery; `spool_dropped` events exceeded the
    limits of the spool or were refused by the broker. `connected` is None where a sink has no remote side.
    """

    published: int
    dropped: int
    failed: int
    queued: int
    spooled: int = 0
    spool_dropped: int = 0
    connected: bool | None = None


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """A change of a device's state since the last status event."""

    device: str
    state: DeviceState
    time_ns: int


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """`moodring.status.v1`: the health of a stream, once a second. `seq` counts status events only."""

    source: str
    time_utc: str
    seq: int
    time_ns: int
    uptime_s: float
    counters: dict[str, int]
    dropped: dict[str, int]
    devices: dict[str, DeviceState]
    device_changes: tuple[DeviceChange, ...]
    level_dbfs: float | None
    latency: dict[str, Latency]
    sinks: dict[str, SinkState]


@dataclass(slots=True)
class Counters:
    """Counts of what reached the pipeline: frames seen = tracked + skipped (+ frames on which a stage failed).

    A datum is counted when its stage has finished with it. The field names are published in status events.
    """

    frames_seen: int = 0
    frames_tracked: int = 0
    frames_skipped_rate: int = 0  # above the face branch's frame rate
    faces_read: int = 0  # classified by the face branch
    faces_held: int = 0  # tracked, but not detected in this frame
    faces_unfit: int = 0  # low quality: too small, blurred, dark or turned away
    samples_heard: int = 0
    sound_gaps: int = 0
    windows_read: int = 0
    events: int = 0
    events_with_both: int = 0
