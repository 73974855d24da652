"""Home Assistant's discovery: what it documents for MQTT sensors is what it gets, and its templates find their values."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from moodring.publish.cloudevents import to_document
from moodring.publish.mqtt.home_assistant import discovery
from tests.publish.test_events import EVENT
from tests.support.status import STATUS

# From https://www.home-assistant.io/integrations/sensor.mqtt/ and .../integrations/mqtt/#mqtt-discovery
SCHEMA = json.loads((Path(__file__).resolve().parents[1] / "fixtures" / "home_assistant_mqtt_sensor.schema.json").read_text())
TOPIC = "moodring/kitchen/live"
FOUND = discovery("homeassistant", TOPIC)


@pytest.mark.parametrize("topic", FOUND)
def test_a_sensor_is_as_documented(topic: str):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(FOUND[topic], SCHEMA)
    assert re.fullmatch(r"homeassistant/sensor/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config", topic)
    assert FOUND[topic]["availability_topic"] == f"{TOPIC}/availability"


def test_the_sensors_are_one_device_with_names_of_their_own():
    assert {topic.split("/")[3] for topic in FOUND} == {"expression", "confidence", "camera", "microphone", "latency", "spool"}
    assert len({payload["unique_id"] for payload in FOUND.values()}) == len(FOUND)
    assert len({json.dumps(payload["device"]) for payload in FOUND.values()}) == 1
    assert len(discovery("homeassistant", "moodring/hall/live").keys() & FOUND.keys()) == 0


def test_every_template_names_a_value_that_is_published():
    documents = {f"{TOPIC}/state": to_document(EVENT), f"{TOPIC}/status": to_document(STATUS)}
    for payload in FOUND.values():
        for key in ("value_template", "json_attributes_template"):
            for path in re.findall(r"value_json((?:\.\w+)+)", payload.get(key, "")):
                value = documents[payload["state_topic"]]
                for name in path.strip(".").split("."):
                    value = value[name]
                assert value is not None


@pytest.mark.parametrize(
    "wrong", [{"device_class": "mood"}, {"state_topic": 7}, {"mood": "sunny"}, {"options": []}, {"entity_category": "config"}]
)
def test_the_schema_notices(wrong: dict[str, object]):
    payload = next(payload for topic, payload in FOUND.items() if "expression" in topic)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(payload | wrong, SCHEMA)
