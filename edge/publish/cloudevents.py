"""An event as JSON: a CloudEvents 1.0 envelope round `moodring.emotion.v1` (schemas/moodring.emotion.v1.schema.json)."""

from __future__ import annotations

import json
from typing import Any

from edge.types import BranchView, EmotionEvent

EMOTION_V1 = "moodring.emotion.v1"
DECIMALS = 4  # of probabilities; milliseconds have three


def to_document(event: EmotionEvent) -> dict[str, Any]:
    """Return the event as a JSON-ready dictionary; the id is source/seq, so a resent event keeps its id."""
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
        },
    }


def to_json(event: EmotionEvent) -> str:
    """Return the event as one line of JSON, without the line's end."""
    return json.dumps(to_document(event), separators=(",", ":"))


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
