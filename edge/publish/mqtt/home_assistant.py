"""Home Assistant MQTT discovery: a stream appears as a device with six sensors.

Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from moodring import __version__
from moodring.labels import LABELS
from moodring.publish.base import DEVICE_STATES

ICONS = {"camera": "mdi:camera", "microphone": "mdi:microphone"}


def discovery(prefix: str, topic: str, labels: Sequence[str] = LABELS) -> dict[str, dict[str, Any]]:
    """Return the discovery payload of each sensor, by discovery topic.

    `prefix` is the discovery prefix of Home Assistant. `topic` is the topic of the stream. `labels` are the labels of its
    events.
    """
    node = re.sub(r"[^A-Za-z0-9_-]+", "_", topic).strip("_")
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
            "default_entity_id": f"sensor.{node.lower()}_{key}",
            **sensor,
        }
        for key, sensor in _sensors(topic, labels).items()
    }


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
