"""Check of the fields that the page and the report read in an event of a file. More fields, of a later version, are accepted.

A missing field raises KeyError, a field of another type raises TypeError, ValueError or AttributeError.
"""

from __future__ import annotations

import math
from typing import Any

from moodring.types import STATUS_V1

SOURCE_PREFIX = "/moodring/"
MAX_LATENCY_MS = 1e9
BOX_FIELDS = 4  # x, y, width, height


def check_document(document: dict[str, Any]) -> None:
    """Raise if an emotion event or status event lacks a field, or if a field has the wrong type or range."""
    _check(isinstance(document["source"], str) and document["source"].startswith(SOURCE_PREFIX))
    data = document["data"]
    _texts(data["devices"])
    if document["type"] == STATUS_V1:
        _check_status(data)
    else:
        _check_emotion(data)


def _check_emotion(data: dict[str, Any]) -> None:
    _check(isinstance(data["seq"], int) and isinstance(data["state"], str) and isinstance(data["bundle_id"], str))
    if data["probabilities"] is not None:
        _distribution(data["probabilities"])
    if data["label"] is not None:
        _check(data["label"] in data["probabilities"])
        _number(data["confidence"], 0, 1)
    _check(isinstance(data["modalities"], list) and all(isinstance(name, str) for name in data["modalities"]))
    for view in (data["face"], data["speech"]):
        if view is not None:
            _distribution(view["probabilities"])
            _check(view["label"] in view["probabilities"])
            _number(view["age_ms"])
            if view.get("settled") is not None:
                _number(view["settled"], 0, 1)
    for face in data["faces"]:
        _numbers(face["box_xywh"], BOX_FIELDS)
        _number(face["id"])
    if data["latency_ms"] is not None:
        _number(data["latency_ms"], -MAX_LATENCY_MS, MAX_LATENCY_MS)
    if data.get("frame_wh") is not None:
        _numbers(data["frame_wh"], 2)


def _check_status(data: dict[str, Any]) -> None:
    for counts in (data["counters"], data["dropped"]):
        _check(all(isinstance(count, int) and count >= 0 for count in counts.values()))
    _check(isinstance(data["device_changes"], list))
    for stage in data["latency"].values():
        for value in stage.values():
            _number(value)
    if data["level_dbfs"] is not None:
        _number(data["level_dbfs"])


def _check(is_right: bool) -> None:
    if not is_right:
        raise ValueError("wrong value")


def _number(value: object, low: float = -math.inf, high: float = math.inf) -> None:
    _check(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high)


def _numbers(values: object, count: int) -> None:
    _check(isinstance(values, list) and len(values) == count)
    for value in values if isinstance(values, list) else ():
        _number(value)


def _distribution(probabilities: dict[str, object]) -> None:
    for probability in probabilities.values():
        _number(probability, 0, 1)


def _texts(values: dict[str, object]) -> None:
    _check(all(isinstance(value, str) for value in values.values()))
