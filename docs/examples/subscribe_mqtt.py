#!/usr/bin/env python3
"""Print the events of all streams of an MQTT broker. Needs the extra `mqtt`.

usage: python subscribe_mqtt.py [HOST [PORT]]
"""

import sys
from typing import Any

import paho.mqtt.client as mqtt

from moodring import EmotionEvent


def subscribe(client: mqtt.Client, *_: Any) -> None:
    """Subscribe after each connection, also after a reconnection."""
    client.subscribe("moodring/+/+/events", qos=1)


def show(_client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
    """Print one event."""
    event = EmotionEvent.from_json(message.payload)
    print(event.source, event.state, event.label, event.confidence, flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = subscribe
client.on_message = show
host = sys.argv[1] if len(sys.argv) > 1 else "localhost"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 1883
client.connect(host, port)
client.loop_forever()
