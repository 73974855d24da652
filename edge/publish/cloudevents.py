"""Events as JSON: `moodring.emotion.v1` and `moodring.status.v1` in a CloudEvents 1.0 envelope, with their JSON Schemas."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moodring.labels import LABELS
from moodring.types import EMOTION_V1, STATUS_V1, BranchView, EmotionEvent, StatusEvent

SCHEMA_DIR = Path(__file__).resolve().parent / "schemas"
DECIMALS = 4  # of probabilities; milliseconds have 3


def stream_name(source: str) -> str:
    """Return HOST/STREAM of a CloudEvents source /moodring/HOST/STREAM/RUN. It is the same in every run."""
    return "/".join(source.split("/")[2:4])


def to_document(event: EmotionEvent | StatusEvent) -> dict[str, Any]:
    """Return the event as a dictionary for JSON. The id is derived from source and seq: a resent event keeps its id."""
    return _status_document(event) if isinstance(event, StatusEvent) else _emotion_document(event)


def _emotion_document(event: EmotionEvent) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{event.source}/{event.seq}",
        "source": event.source,
        "type": EMOTION_V1,
        "time": event.time_utc,
        "datacontenttype": "application/json",
        "data": {
            "seq": event.seq,
            "capture_time_ns": event.capture_time_ns,
            "state": event.state,
            "label": event.label,
            "confidence": None if event.confidence is None else round(event.confidence, DECIMALS),
            "probabilities": _rounded(event.probabilities),
            "modalities": list(event.modalities),
            "face": _branch(event.face),
            "speech": _branch(event.speech),
            "faces": [
                {"id": face.id, "box_xywh": list(face.box_xywh), "quality": round(face.quality, DECIMALS)}
                for face in event.faces
            ],
            "latency_ms": None if event.latency_ms is None else round(event.latency_ms, 3),
            "bundle_id": event.bundle_id,
            "devices": event.devices,
            **({"frame_wh": list(event.frame_wh)} if event.frame_wh else {}),
            **({"preview": True} if event.preview else {}),
        },
    }


def _status_document(event: StatusEvent) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{event.source}/status/{event.seq}",  # emotion and status events are numbered separately
        "source": event.source,
        "type": STATUS_V1,
        "time": event.time_utc,
        "datacontenttype": "application/json",
        "data": {
            "seq": event.seq,
            "time_ns": event.time_ns,
            "uptime_s": round(event.uptime_s, 3),
            "counters": event.counters,
            "dropped": event.dropped,
            "devices": event.devices,
            "device_changes": [dataclasses.asdict(change) for change in event.device_changes],
            "level_dbfs": None if event.level_dbfs is None else round(event.level_dbfs, 1),
            "latency": {
                stage: {name: round(value, 3) for name, value in dataclasses.asdict(latency).items()}
                for stage, latency in event.latency.items()
            },
            "sinks": {name: dataclasses.asdict(state) for name, state in event.sinks.items()},
        },
    }


def to_json(event: EmotionEvent | StatusEvent) -> str:
    """Return the event as one line of JSON, without a newline. Any thread may call it."""
    return _JSON_CACHE.serialize(event)


def emotion_schema(labels: Sequence[str] = LABELS) -> dict[str, Any]:
    """Return the published schema, with its eight labels replaced by `labels`."""
    schema: dict[str, Any] = json.loads((SCHEMA_DIR / f"{EMOTION_V1}.schema.json").read_text(encoding="utf-8"))
    if tuple(labels) == LABELS:
        return schema
    probabilities = schema["$defs"]["probabilities"]
    probability = probabilities["properties"][LABELS[0]]
    probabilities["properties"] = dict.fromkeys(labels, probability)
    probabilities["required"] = list(labels)
    probabilities["description"] = "The probability of each label of the bundle that bundle_id identifies."
    relabelled: dict[str, Any] = json.loads(json.dumps(schema).replace(json.dumps(list(LABELS)), json.dumps(list(labels))))
    return relabelled


class _JsonCache:
    """Serialises an event once, although each sink requests it. Caches the newest event; thread-safe."""

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(separators=(",", ":")).encode
        self._newest: tuple[EmotionEvent | StatusEvent | None, str] = (None, "")

    def serialize(self, event: EmotionEvent | StatusEvent) -> str:
        newest, line = self._newest  # one tuple: another thread may replace it
        if newest is not event:
            line = self._encode(to_document(event))
            self._newest = (event, line)
        return line


_JSON_CACHE = _JsonCache()


def _rounded(probabilities: dict[str, float] | None) -> dict[str, float] | None:
    return None if probabilities is None else {label: round(p, DECIMALS) for label, p in probabilities.items()}


def _branch(view: BranchView | None) -> dict[str, Any] | None:
    if view is None:
        return None
    data = {
        "label": view.label,
        "probabilities": _rounded(view.probabilities),
        "usable": round(view.usable, DECIMALS),
        "age_ms": round(view.age_ms, 3),
    }
    return data if view.settled is None else data | {"settled": round(view.settled, DECIMALS)}
