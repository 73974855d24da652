"""MQTT against a Mosquitto broker: delivery, restarts of broker and publisher, Home Assistant, refused events."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from moodring.publish.cloudevents import to_json
from tests.support.events import check_event, check_status
from tests.support.example_events import EVENT, NO_FACE_EVENT, STATUS
from tests.support.servers.broker import Broker, Subscriber, free_port
from tests.support.servers.mqtt import TOPIC, Log, make_events, open_sink, received_numbers

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]


def without_duplicates(values: list[int]) -> list[int]:
    return list(dict.fromkeys(values))


@pytest.mark.parametrize("protocol", ["mqtt5", "mqtt311"])
def test_events_state_status_and_availability_arrive(tmp_path: Path, protocol: str):
    with Broker(tmp_path) as broker:
        with Subscriber(broker.port, f"{TOPIC}/#") as subscriber:
            with open_sink(broker.port, tmp_path, Log(), protocol=protocol) as mqtt:
                for event in make_events(0, 1, 2):
                    mqtt.publish(event)
                mqtt.publish(NO_FACE_EVENT)
                mqtt.publish(STATUS)
                subscriber.wait_for(lambda s: len(s.payloads("events")) == 4 and s.payloads("status"))
                assert subscriber.payloads("availability") == ["online"]
            subscriber.wait_for(lambda s: s.payloads("availability") == ["online", "offline"])
            assert subscriber.payloads("events") == [to_json(event) for event in (*make_events(0, 1, 2), NO_FACE_EVENT)]
            for body in subscriber.payloads("events"):
                check_event(json.loads(body))
            check_status(json.loads(subscriber.payloads("status")[0]))
        with Subscriber(broker.port, f"{TOPIC}/#") as late:
            late.wait_for(lambda s: s.payloads("state") and s.payloads("availability"))
            assert late.payloads("events") == []
            assert late.payloads("state") == [to_json(NO_FACE_EVENT)]
            assert late.payloads("availability") == ["offline"]
            assert all(retained for _, _, retained in late.messages)


def test_events_published_without_a_broker_arrive_after_it_restarts(tmp_path: Path):
    log = Log()
    with Broker(tmp_path) as broker, Subscriber(broker.port, f"{TOPIC}/#") as subscriber:
        with open_sink(broker.port, tmp_path, log) as mqtt:
            for event in make_events(*range(100)):
                mqtt.publish(event)
            subscriber.wait_for(lambda s: len(s.payloads("events")) == 100)
            broker.save()
            broker.kill()
            log.wait_for("retrying", "events in the spool")
            for event in make_events(*range(100, 300)):
                mqtt.publish(event)
            assert mqtt.spooled >= 200
            assert not mqtt.connected
            broker.start()
            subscriber.wait_for(lambda s: without_duplicates(received_numbers(s)) == list(range(300)), 30)
            log.wait_for("connected")
        assert mqtt.spooled == 0
    bodies = {json.loads(body)["id"]: set() for body in subscriber.payloads("events")}
    for body in subscriber.payloads("events"):
        bodies[json.loads(body)["id"]].add(body)
    assert {len(versions) for versions in bodies.values()} == {1}  # a resent event has the same bytes


def test_broker_that_starts_later_gets_all_events(tmp_path: Path):
    log = Log()
    broker = Broker(tmp_path)
    with open_sink(broker.port, tmp_path, log) as mqtt:
        for event in make_events(0, 1, 2):
            mqtt.publish(event)
        log.wait_for("connection refused", "retrying")
    log.wait_for("3 events are not delivered", "for the next run")
    with broker, Subscriber(broker.port, f"{TOPIC}/#") as subscriber, open_sink(broker.port, tmp_path, log):
        log.wait_for("3 events of earlier runs are in the spool")
        subscriber.wait_for(lambda s: received_numbers(s) == [0, 1, 2])


PUBLISHER = """
import dataclasses, sys
from pathlib import Path
from moodring.publish.mqtt.connection import BrokerAddress, Credentials
from moodring.publish.mqtt.sink import MqttSettings, MqttSink
from moodring.publish.mqtt.spool import Spool
from tests.support.example_events import EVENT

port, folder = int(sys.argv[1]), Path(sys.argv[2])
settings = MqttSettings(BrokerAddress("127.0.0.1", port, tls=False), Credentials("moodring-test"), "moodring/kitchen/live")
sink = MqttSink(settings, Spool(folder / "events.spool", max_bytes=10**8, max_age_s=1e6), print)
sink.open()
for number in range(10**6):
    sink.publish(dataclasses.replace(EVENT, seq=number))
    print(number, flush=True)
"""


def test_sigkill_loses_no_event_and_availability_becomes_offline(tmp_path: Path):
    with Broker(tmp_path) as broker, Subscriber(broker.port, f"{TOPIC}/#") as subscriber:
        publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(broker.port), str(tmp_path)],
            stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        subscriber.wait_for(lambda s: len(s.payloads("events")) > 50 and s.payloads("availability") == ["online"], 30)
        publisher.send_signal(signal.SIGKILL)
        reported = [int(line) for line in publisher.stdout.read().splitlines()]
        publisher.wait()
        subscriber.wait_for(lambda s: s.payloads("availability") == ["online", "offline"])
        with open_sink(broker.port, tmp_path, Log()):
            subscriber.wait_for(lambda s: set(reported) <= set(received_numbers(s)), 60)
        assert without_duplicates(received_numbers(subscriber))[: len(reported)] == reported


def test_retries_back_off(tmp_path: Path):
    attempts_s: list[float] = []
    with open_sink(free_port(), tmp_path, Log()) as mqtt:
        run_connection = mqtt._run_connection
        has_five_attempts = threading.Event()

        def record_attempt() -> None:
            attempts_s.append(time.monotonic())
            if len(attempts_s) == 5:
                has_five_attempts.set()
            run_connection()

        mqtt._run_connection = record_attempt
        assert has_five_attempts.wait(20)
    waits_s = [later - earlier for earlier, later in itertools.pairwise(attempts_s)]
    assert waits_s[-1] > 2 * waits_s[0]
    assert sum(waits_s) < 15


def test_sensors_of_an_earlier_configuration_are_withdrawn(tmp_path: Path):
    with Broker(tmp_path) as broker, Subscriber(broker.port, "#") as subscriber:
        with open_sink(broker.port, tmp_path, Log(), discovery_prefix="homeassistant"):
            subscriber.wait_for(lambda s: len(s.payloads("config")) == 6)
        with open_sink(broker.port, tmp_path, Log(), discovery_prefix="elsewhere"):
            subscriber.wait_for(lambda s: len(s.payloads("config")) == 6 + 6 + 6)
        with open_sink(broker.port, tmp_path, Log()):
            subscriber.wait_for(lambda s: len(s.payloads("config")) == 6 + 6 + 6 + 6)
        with Subscriber(broker.port, "#") as late:
            late.wait_for(lambda s: s.payloads("availability"))
            assert late.payloads("config") == []
        with open_sink(broker.port, tmp_path, Log()) as mqtt:  # no sensor is left to withdraw
            mqtt.publish(EVENT)
            subscriber.wait_for(lambda s: s.payloads("events"))
            assert len(subscriber.payloads("config")) == 24
