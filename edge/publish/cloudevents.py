"""Events as JSON and back: a CloudEvents 1.0 envelope round `moodring.emotion.v1` or `moodring.status.v1` (see schemas/)."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from moodring.errors import EventError
from moodring.types import BranchView, EmotionEvent, Face, StatusEvent

EMOTION_V1 = "moodring.emotion.v1"
STATUS_V1 = "moodring.status.v1"
DECIMALS = 4  # of probabilities; milliseconds have three


def to_document(event: EmotionEvent | StatusEvent) -> dict[str, Any]:
    """Return the event as a JSON-ready dictionary; the id is source/seq, so a resent event keeps its id."""
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
        "id": f"{event.source}/status/{event.seq}",  # statuses are counted apart from emotion events
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
    """Return the event as one line of JSON, without the line's end."""
    return _JSON.of(event)


class _NewestJson:
    """Every sink asks for the same event, one after the other: its line is made once. Any thread may ask."""

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(separators=(",", ":")).encode
        self._newest: tuple[EmotionEvent | StatusEvent | None, str] = (None, "")

    def of(self, event: EmotionEvent | StatusEvent) -> str:
        newest, line = self._newest  # one tuple, so that no thread sees half of a change
        if newest is not event:
            line = self._encode(to_document(event))
            self._newest = (event, line)
        return line


_JSON = _NewestJson()


def _rounded(probabilities: dict[str, float] | None) -> dict[str, float] | None:
    return None if probabilities is None else {label: round(p, DECIMALS) for label, p in probabilities.items()}


def _branch(view: BranchView | None) -> dict[str, Any] | None:
    if view is None:
        return None
    return {
        "label": view.label,
        "probabilities": _rounded(view.probabilities),
        "usable": round(view.usable, DECIMALS),
        "age_ms": round(view.age_ms, 3),
    }


def from_json(text: str | bytes) -> EmotionEvent:
    """Return the emotion event that a line of JSON holds; fields that a later version added are ignored. Raises EventError."""
    try:
        document = json.loads(text)
        if document["type"] != EMOTION_V1:
            raise EventError(f"this is no {EMOTION_V1} but {document['type']!r}")
        data = document["data"]
        return EmotionEvent(
            source=document["source"],
            time_utc=document["time"],
            seq=data["seq"],
            capture_time_ns=data["capture_time_ns"],
            state=data["state"],
            label=data["label"],
            confidence=data["confidence"],
            probabilities=data["probabilities"],
            modalities=tuple(data["modalities"]),
            face=_read_branch(data["face"]),
            speech=_read_branch(data["speech"]),
            faces=tuple(Face(face["id"], tuple(face["box_xywh"]), face["quality"]) for face in data["faces"]),
            latency_ms=data["latency_ms"],
            bundle_id=data["bundle_id"],
            devices=data["devices"],
            frame_wh=tuple(data["frame_wh"]) if data.get("frame_wh") else None,
            preview=data.get("preview", False),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise EventError(f"this is no event of moodring: {error!r}") from error


def _read_branch(view: dict[str, Any] | None) -> BranchView | None:
    return None if view is None else BranchView(view["label"], view["probabilities"], view["usable"], view["age_ms"])
