"""Emotion and status events as JSON: schema, compatibility with version 0.1.0, and `EmotionEvent.from_json`."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from moodring.errors import EventError
from moodring.publish.cloudevents import to_document, to_json
from moodring.types import EmotionEvent
from tests.support.events import check_event, check_lines, check_status, validator
from tests.support.example_events import EVENT, NO_FACE_EVENT, STATUS

GOLDEN = Path(__file__).resolve().parents[1] / "fixtures" / "emotion_v1.jsonl"


def test_events_of_version_0_1_0_are_valid():
    events = check_lines(GOLDEN.read_text(encoding="utf-8"))
    assert {event["data"]["state"] for event in events} >= {"ok", "no_face"}
    assert any(len(event["data"]["modalities"]) == 2 for event in events)


def test_event_has_the_fields_of_version_0_1_0_in_order():
    golden = next(event for event in map(json.loads, GOLDEN.read_text().splitlines()) if len(event["data"]["modalities"]) == 2)
    document = to_document(EVENT)
    assert list(document) == list(golden)
    assert list(document["data"]) == list(golden["data"])
    for part in ("face", "speech", "devices", "probabilities"):
        assert list(document["data"][part]) == list(golden["data"][part])
    assert list(document["data"]["faces"][0]) == list(golden["data"]["faces"][0])


@pytest.mark.parametrize("event", [EVENT, NO_FACE_EVENT], ids=["ok", "no_face"])
def test_event_is_valid_and_one_line(event: EmotionEvent):
    check_event(json.loads(to_json(event)))
    assert "\n" not in to_json(event)


def test_event_numbers_are_rounded():
    data = to_document(EVENT)["data"]
    assert data["latency_ms"] == 4.568
    assert data["face"]["age_ms"] == 12.346
    assert data["faces"] == [{"id": 1, "box_xywh": [10, -2, 30, 30], "quality": 0.75}]
    assert data["modalities"] == ["face", "speech"]


INVALID = {
    "id missing": lambda e: e.pop("id"),
    "wrong specversion": lambda e: e.update(specversion="0.3"),
    "wrong type": lambda e: e.update(type="moodring.emotion.v2"),
    "source without run": lambda e: e.update(source="/moodring/host/live"),
    "data missing": lambda e: e.pop("data"),
    "unknown label": lambda e: e["data"].update(label="bored"),
    "unknown state": lambda e: e["data"].update(state="fine"),
    "confidence above 1": lambda e: e["data"].update(confidence=1.1),
    "negative latency": lambda e: e["data"].update(latency_ms=-1.0),
    "negative age": lambda e: e["data"]["face"].update(age_ms=-0.1),
    "face without box": lambda e: e["data"]["faces"][0].pop("box_xywh"),
    "box with 3 numbers": lambda e: e["data"]["faces"][0].update(box_xywh=[1, 2, 3]),
    "duplicate modality": lambda e: e["data"].update(modalities=["face", "face"]),
    "unknown device state": lambda e: e["data"]["devices"].update(camera="broken"),
    "microphone missing": lambda e: e["data"]["devices"].pop("microphone"),
    "probability of unknown label": lambda e: e["data"]["probabilities"].update(bored=0.1),
    "probability missing": lambda e: e["data"]["probabilities"].pop("happy"),
    "empty bundle_id": lambda e: e["data"].update(bundle_id=""),
    "seq is a string": lambda e: e["data"].update(seq="7"),
}


@pytest.mark.parametrize("change", INVALID)
def test_schema_rejects_invalid_event(change: str):
    event = copy.deepcopy(to_document(EVENT))
    validator().validate(event)
    INVALID[change](event)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(event)


def test_check_event_rejects_invalid_time():
    for time_utc in ("yesterday", "2026-01-02T03:04:05"):
        with pytest.raises((AssertionError, ValueError)):
            check_event(to_document(EVENT) | {"time": time_utc})


def test_schema_accepts_unknown_fields():
    event = to_document(EVENT)
    event["data"]["mood"] = "sunny"
    event["traceparent"] = "00"
    validator().validate(event)


# EmotionEvent.from_json


@pytest.mark.parametrize("event", [EVENT, NO_FACE_EVENT], ids=["ok", "no_face"])
def test_from_json_returns_the_published_event(event: EmotionEvent):
    read = EmotionEvent.from_json(to_json(event))
    assert to_json(read) == to_json(event)
    assert (read.source, read.seq, read.label, read.modalities) == (event.source, event.seq, event.label, event.modalities)
    assert read.faces == event.faces


def test_from_json_reads_events_of_version_0_1_0():
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        assert to_document(EmotionEvent.from_json(line)) == json.loads(line)


def test_from_json_ignores_unknown_fields():
    document = to_document(EVENT)
    document["traceparent"] = "00"
    for part in (document["data"], document["data"]["face"], document["data"]["faces"][0]):
        part["mood"] = "sunny"
    assert to_json(EmotionEvent.from_json(json.dumps(document))) == to_json(EVENT)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"type": "moodring.emotion.v1"}', '{"type": "moodring.emotion.v1", "data": {}}']
)
def test_from_json_rejects_other_text(text: str):
    with pytest.raises(EventError, match=r"not an event of moodring"):
        EmotionEvent.from_json(text)


def test_from_json_rejects_status_event():
    with pytest.raises(EventError, match=r"not a moodring.emotion.v1 event but 'moodring.status.v1'"):
        EmotionEvent.from_json(to_json(STATUS))


def test_status_is_valid_and_has_the_fields_of_version_0_1_0_in_order():
    check_status(json.loads(to_json(STATUS)))
    (golden,) = map(json.loads, (GOLDEN.parent / "status_v1.jsonl").read_text(encoding="utf-8").splitlines())
    check_status(golden)
    document = to_document(STATUS)
    assert list(document["data"]) == list(golden["data"])
    assert list(document["data"]["sinks"]["mqtt"]) == list(golden["data"]["sinks"]["mqtt"])
