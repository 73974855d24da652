"""The JSON Schema of an emotion event, for moodring's labels or those of a custom bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moodring.labels import LABELS
from moodring.types import EMOTION_V1

SCHEMA_FILE = Path(__file__).resolve().parent / "schemas" / f"{EMOTION_V1}.schema.json"


def emotion_schema(labels: Sequence[str] = LABELS) -> dict[str, Any]:
    """Return the published schema, with its eight labels replaced by `labels`."""
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    if tuple(labels) == LABELS:
        return schema
    probabilities = schema["$defs"]["probabilities"]
    probability = probabilities["properties"][LABELS[0]]
    probabilities["properties"] = dict.fromkeys(labels, probability)
    probabilities["required"] = list(labels)
    probabilities["description"] = "The probability of each label of the bundle that bundle_id identifies."
    relabelled: dict[str, Any] = json.loads(json.dumps(schema).replace(json.dumps(list(LABELS)), json.dumps(list(labels))))
    return relabelled
