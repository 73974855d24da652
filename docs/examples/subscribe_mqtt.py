#!/usr/bin/env python3
"""Print the events of all streams of an MQTT broker. Needs the extra `mqtt`.

usage: python subscribe_mqtt.py [HOST]
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
client.connect(sys.argv[1] if len(sys.argv) > 1 else "localhost")
client.loop_forever()
