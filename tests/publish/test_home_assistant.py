"""Home Assistant discovery: the payloads match the documented schema, and each template finds a published value."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.publish.cloudevents import to_document
from moodring.publish.mqtt.home_assistant import discovery
from tests.support.example_events import EVENT, STATUS

# From https://www.home-assistant.io/integrations/sensor.mqtt/ and .../integrations/mqtt/#mqtt-discovery
SCHEMA = json.loads((Path(__file__).resolve().parents[1] / "fixtures" / "home_assistant_mqtt_sensor.schema.json").read_text())
TOPIC = "moodring/kitchen/live"
PAYLOADS = discovery("homeassistant", TOPIC)


@pytest.mark.parametrize("topic", PAYLOADS)
def test_sensor_payload_matches_the_documented_schema(topic: str):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(PAYLOADS[topic], SCHEMA)
    assert re.fullmatch(r"homeassistant/sensor/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config", topic)
    assert PAYLOADS[topic]["availability_topic"] == f"{TOPIC}/availability"


def test_sensors_share_one_device_and_have_unique_ids():
    assert {topic.split("/")[3] for topic in PAYLOADS} == {
        "expression",
        "confidence",
        "camera",
        "microphone",
        "latency",
        "spool",
    }
    assert len({payload["unique_id"] for payload in PAYLOADS.values()}) == len(PAYLOADS)
    assert len({json.dumps(payload["device"]) for payload in PAYLOADS.values()}) == 1
    assert len(discovery("homeassistant", "moodring/hall/live").keys() & PAYLOADS.keys()) == 0


def ids(topic: str) -> tuple[set[str], set[str], str]:
    """Return the discovery topics, the unique ids and the device identifier of a topic."""
    payloads = discovery("homeassistant", topic)
    return (
        set(payloads),
        {payload["unique_id"] for payload in payloads.values()},
        payloads.popitem()[1]["device"]["identifiers"][0],
    )


def assert_distinct(one: str, other: str) -> None:
    (topics, unique, device), (other_topics, other_unique, other_device) = ids(one), ids(other)
    assert not topics & other_topics
    assert not unique & other_unique
    assert device != other_device


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("wohnung/küche", "wohnung/kóche"),
        ("дом/кухня", "дом/ванна"),
        ("caf\u00e9", "cafe\u0301"),  # composed and decomposed
        ("a/b", "a_b"),
        ("a/b", "a//b"),
        ("a_b", "a__b"),
        ("a b", "a.b"),
        ("_a", "a"),
        ("a/ü", "a"),
        ("x" * 200, "x" * 201),
        ("x/" * 90 + "a", "x/" * 90 + "b"),
    ],
)
def test_different_topics_have_different_ids(one: str, other: str):
    assert_distinct(one, other)


TOPICS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30) | st.text("aä/_-. ", min_size=1, max_size=6)


@given(TOPICS, TOPICS)
def test_any_two_topics_have_different_ids_that_home_assistant_accepts(one: str, other: str):
    if one != other:
        assert_distinct(one, other)
    for topic, payload in discovery("homeassistant", one).items():
        assert re.fullmatch(r"homeassistant/sensor/[a-zA-Z0-9_-]{1,120}/[a-z]+/config", topic)
        assert re.fullmatch(r"sensor\.(?!_)(?!.*__)[a-z0-9_]+", payload["default_entity_id"])


def test_the_ids_of_default_topics_do_not_change():
    assert ids(TOPIC)[2] == "moodring_kitchen_live"
    assert ids("moodring/living-room/Front-2")[2] == "moodring_living-room_Front-2"


def test_templates_refer_to_published_values():
    documents = {f"{TOPIC}/state": to_document(EVENT), f"{TOPIC}/status": to_document(STATUS)}
    for payload in PAYLOADS.values():
        for key in ("value_template", "json_attributes_template"):
            for path in re.findall(r"value_json((?:\.\w+)+)", payload.get(key, "")):
                value = documents[payload["state_topic"]]
                for name in path.strip(".").split("."):
                    value = value[name]
                assert value is not None


@pytest.mark.parametrize(
    "change", [{"device_class": "mood"}, {"state_topic": 7}, {"mood": "sunny"}, {"options": []}, {"entity_category": "config"}]
)
def test_schema_rejects_invalid_payload(change: dict[str, object]):
    payload = next(payload for topic, payload in PAYLOADS.items() if "expression" in topic)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(payload | change, SCHEMA)
