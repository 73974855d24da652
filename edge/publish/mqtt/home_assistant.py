"""Home Assistant MQTT discovery: a stream appears as a device with six sensors.

Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from moodring import __version__
from moodring.labels import LABELS
from moodring.publish.base import DEVICE_STATES

READABLE_TOPIC = re.compile(r"[A-Za-z0-9-]+(/[A-Za-z0-9-]+)*")
MAX_NODE_CHARS, HASH_CHARS = 80, 12
ICONS = {"camera": "mdi:camera", "microphone": "mdi:microphone"}


def discovery(prefix: str, topic: str, labels: Sequence[str] = LABELS) -> dict[str, dict[str, Any]]:
    """Return the discovery payload of each sensor, by discovery topic.

    `prefix` is the discovery prefix of Home Assistant. `topic` is the topic of the stream. `labels` are the labels of its
    events.
    """
    node = _node_id(topic)
    common = {
        "state_topic": f"{topic}/state",
        "availability_topic": f"{topic}/availability",
        "payload_available": "online",
        "payload_not_available": "offline",
        "device": {
            "identifiers": [node],
            "name": f"moodring {topic.removeprefix('moodring/')}",
            "manufacturer": "moodring",
            "model": "expression sensor",
            "sw_version": __version__,
        },
        "origin": {"name": "moodring", "sw_version": __version__},
    }
    return {
        f"{prefix}/sensor/{node}/{key}/config": {
            **common,
            "unique_id": f"{node}_{key}",
            "default_entity_id": f"sensor.{re.sub('[^a-z0-9]+', '_', f'{node}_{key}'.lower()).strip('_')}",
            **sensor,
        }
        for key, sensor in _sensors(topic, labels).items()
    }


def _node_id(topic: str) -> str:
    """Return an id of letters, digits, _ and - that differs for each topic.

    A topic whose levels consist of letters, digits and hyphens has a readable id; others have a hash at the end.
    """
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", topic).strip("_")
    if READABLE_TOPIC.fullmatch(topic) and len(readable) <= MAX_NODE_CHARS:
        return readable
    digest = hashlib.sha256(topic.encode()).hexdigest()[:HASH_CHARS]
    return f"{readable[:MAX_NODE_CHARS]}__{digest}"  # a readable id does not contain __


def _sensors(topic: str, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the fields that differ between sensors. A null renders as None, which Home Assistant shows as unknown."""
    return {
        "expression": {
            "name": "Expression",
            "icon": "mdi:emoticon-outline",
            "device_class": "enum",
            "options": list(labels),
            "value_template": "{{ value_json.data.label }}",
            "json_attributes_topic": f"{topic}/state",
            "json_attributes_template": "{{ value_json.data.probabilities | default({}, true) | tojson }}",
        },
        "confidence": {
            "name": "Confidence",
            "icon": "mdi:gauge",
            "state_class": "measurement",
            "unit_of_measurement": "%",
            "suggested_display_precision": 0,
            "value_template": "{% set c = value_json.data.confidence %}{{ (c * 100) | round(1) if c is number else None }}",
        },
        **{
            device: {
                "name": device.capitalize(),
                "icon": ICONS[device],
                "device_class": "enum",
                "options": list(DEVICE_STATES),
                "entity_category": "diagnostic",
                "value_template": f"{{{{ value_json.data.devices.{device} }}}}",
            }
            for device in ICONS
        },
        "latency": {
            "name": "Latency",
            "icon": "mdi:timer-outline",
            "state_class": "measurement",
            "unit_of_measurement": "ms",
            "suggested_display_precision": 0,
            "entity_category": "diagnostic",
            "value_template": "{{ value_json.data.latency_ms if value_json.data.latency_ms is number else None }}",
        },
        "spool": {
            "name": "Events waiting",
            "icon": "mdi:tray-full",
            "state_class": "measurement",
            "entity_category": "diagnostic",
            "state_topic": f"{topic}/status",
            "value_template": "{{ value_json.data.sinks.mqtt.spooled }}",
        },
    }
