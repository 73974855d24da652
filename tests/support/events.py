"""A pipeline for tests, and checks of events against the published schema."""

from __future__ import annotations

import datetime as dt
import functools
import json
from pathlib import Path
from typing import Any

import jsonschema

import moodring
from moodring.config import Config
from moodring.inference.bundle import load
from moodring.pipeline import Pipeline
from moodring.types import EventIdentity

SCHEMAS = Path(moodring.__file__).parent / "publish" / "schemas"
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DEVICES_OK = {"camera": "ok", "microphone": "ok"}


def make_pipeline(bundle: Path, config: Config | None = None, **options: Any) -> Pipeline:
    """Return a pipeline of this bundle whose event times start at 1970-01-01; `options` go to `Pipeline`."""
    identity = EventIdentity("/moodring/test/clip/0", lambda ns: f"{EPOCH + dt.timedelta(microseconds=ns // 1000):%FT%T.%fZ}")
    return Pipeline(config or Config(), load(bundle), identity, **options)


@functools.cache
def validator(kind: str = "moodring.emotion.v1") -> jsonschema.Draft202012Validator:
    """Return the validator of an event type's published schema."""
    schema = json.loads((SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_event(event: dict[str, Any]) -> None:
    """Assert that an emotion event is valid: its schema, and the rules that a schema cannot express."""
    validator().validate(event)
    data = event["data"]
    assert dt.datetime.fromisoformat(event["time"]).tzinfo is not None
    assert event["id"] == f"{event['source']}/{data['seq']}"
    published = (data["label"], data["confidence"], data["probabilities"])
    if data["state"] == "ok":
        assert data["modalities"]
        assert data["label"] in data["probabilities"]
        assert data["confidence"] == data["probabilities"][data["label"]]
        assert abs(sum(data["probabilities"].values()) - 1) < 0.001
        for modality in data["modalities"]:
            assert data[modality] is not None
    else:
        assert published == (None, None, None)
        assert data["modalities"] == []


def check_status(event: dict[str, Any]) -> None:
    """Assert that a status event is valid: its schema, and the rules that a schema cannot express."""
    validator("moodring.status.v1").validate(event)
    assert dt.datetime.fromisoformat(event["time"]).tzinfo is not None
    assert event["id"] == f"{event['source']}/status/{event['data']['seq']}"
    for latency in event["data"]["latency"].values():
        assert latency["p50_ms"] <= latency["p99_ms"] <= latency["max_ms"]


def check_lines(text: str) -> list[dict[str, Any]]:
    """Return the emotion events of JSON lines; assert that each is valid and that `seq` rises from 0 without a gap."""
    assert not text or text.endswith("\n")
    events = [json.loads(line, parse_constant=_reject_constant) for line in text.splitlines()]
    for event in events:
        check_event(event)
    assert [event["data"]["seq"] for event in events] == list(range(len(events)))
    assert len({event["source"] for event in events}) <= 1
    return events


def _reject_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is not valid JSON")
