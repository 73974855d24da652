"""The JSON Schema of an emotion event: as published for moodring's own labels, and for those of a bundle with its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moodring.labels import LABELS
from moodring.types import EMOTION_V1

SCHEMA_FILE = Path(__file__).resolve().parent / "schemas" / f"{EMOTION_V1}.schema.json"


def emotion_schema(labels: Sequence[str] = LABELS) -> dict[str, Any]:
    """Return the schema with these labels where the published one names moodring's eight."""
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    if tuple(labels) == LABELS:
        return schema
    probabilities = schema["$defs"]["probabilities"]
    one = probabilities["properties"][LABELS[0]]
    probabilities["properties"] = dict.fromkeys(labels, one)
    probabilities["required"] = list(labels)
    probabilities["description"] = "of the labels of the bundle that bundle_id names"
    replaced: dict[str, Any] = json.loads(json.dumps(schema).replace(json.dumps(list(LABELS)), json.dumps(list(labels))))
    return replaced
