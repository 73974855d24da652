"""MQTT against a real Mosquitto: nothing lost when it dies or we do, nothing said in clear that should not be."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moodring.publish.cloudevents import to_json
from moodring.publish.mqtt.connection import BrokerAddress, Credentials
from moodring.publish.mqtt.sink import MqttSettings, MqttSink
from moodring.publish.mqtt.spool import Spool
from tests.publish.test_events import EVENT, SILENT
from tests.support.broker import Broker, Subscriber, free_port, write_certificates
from tests.support.events import check_event, check_status
from tests.support.status import STATUS

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
TOPIC = "moodring/kitchen/live"


class Log:
    """Collects what was said; `wait_for` waits until a message holds a text."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, message: str) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait_for(self, *texts: str, seconds: float = 15.0) -> str:
        with self._changed:
            found = self._changed.wait_for(lambda: any(all(t in m for t in texts) for m in self.messages), seconds)
        assert found, f"{texts} was not said, but: {self.messages}"
        return next(m for m in self.messages if all(t in m for t in texts))


@contextmanager
def sink(port: int, folder: Path, log: Log, **options: object) -> Iterator[MqttSink]:
    """Open a sink on a broker; `tls`, `login` and whatever MqttSettings takes may be given."""
    credentials = options.pop("credentials", Credentials("moodring-test"))
    address = BrokerAddress(options.pop("host", "127.0.0.1"), port, tls=options.pop("tls", False))
    spool = Spool(folder / "events.spool", max_bytes=10_000_000, max_age_s=1e6)
    opened = MqttSink(MqttSettings(address, credentials, TOPIC, **options), spool, log)
    opened.open()
    try:
        yield opened
    finally:
        opened.close()


def numbered(*numbers: int) -> Iterator[object]:
    return (dataclasses.replace(EVENT, seq=number) for number in numbers)


def numbers(subscriber: Subscriber) -> list[int]:
    return [json.loads(body)["data"]["seq"] for body in subscriber.payloads("events")]


def without_repeats(values: list[int]) -> list[int]:
    return list(dict.fromkeys(values))


@pytest.mark.parametrize("protocol", ["mqtt5", "mqtt311"])
def test_events_state_status_and_availability_arrive(tmp_path: Path, protocol: str):
    with Broker(tmp_path) as broker:
        with Subscriber(broker.port, f"{TOPIC}/#") as subscriber:
            with sink(broker.port, tmp_path, Log(), protocol=protocol) as mqtt:
                for event in numbered(0, 1, 2):
                    mqtt.publish(event)
                mqtt.publish(SILENT)
                mqtt.publish(STATUS)
                subscriber.wait_for(lambda s: len(s.payloads("events")) == 4 and s.payloads("status"))
                assert subscriber.payloads("availability") == ["online"]
            subscriber.wait_for(lambda s: s.payloads("availability") == ["online", "offline"])
            assert subscriber.payloads("events") == [to_json(event) for event in (*numbered(0, 1, 2), SILENT)]
            for body in subscriber.payloads("events"):
                check_event(json.loads(body))
            check_status(json.loads(subscriber.payloads("status")[0]))
        with Subscriber(broker.port, f"{TOPIC}/#") as late:
            late.wait_for(lambda s: s.payloads("state") and s.payloads("availability"))
            assert late.payloads("events") == []
            assert late.payloads("state") == [to_json(SILENT)]
            assert late.payloads("availability") == ["offline"]
            assert all(retained for _, _, retained in late.messages)


def test_what_is_published_while_the_broker_is_away_comes_when_it_is_back(tmp_path: Path):
    log = Log()
    with Broker(tmp_path) as broker, Subscriber(broker.port, f"{TOPIC}/#") as subscriber:
        with sink(broker.port, tmp_path, log) as mqtt:
            for event in numbered(*range(100)):
                mqtt.publish(event)
            subscriber.wait_for(lambda s: len(s.payloads("events")) == 100)
            broker.save()
            broker.kill()
            log.wait_for("trying again", "events wait")
            for event in numbered(*range(100, 300)):
                mqtt.publish(event)
            assert mqtt.spooled >= 200
            assert not mqtt.connected
            broker.start()
            subscriber.wait_for(lambda s: without_repeats(numbers(s)) == list(range(300)), 30)
            log.wait_for("connected")
        assert mqtt.spooled == 0
    bodies = {json.loads(body)["id"]: set() for body in subscriber.payloads("events")}
    for body in subscriber.payloads("events"):
        bodies[json.loads(body)["id"]].add(body)
    assert {len(same) for same in bodies.values()} == {1}  # sent again is the same event, byte for byte


def test_a_broker_that_comes_later_gets_everything(tmp_path: Path):
    log = Log()
    broker = Broker(tmp_path)
    with sink(broker.port, tmp_path, log) as mqtt:
        for event in numbered(0, 1, 2):
            mqtt.publish(event)
        log.wait_for("refuses the connection", "trying again")
    log.wait_for("3 events wait in", "for the next run")
    with broker, Subscriber(broker.port, f"{TOPIC}/#") as subscriber, sink(broker.port, tmp_path, log):
        log.wait_for("3 events of earlier runs wait")
        subscriber.wait_for(lambda s: numbers(s) == [0, 1, 2])


PUBLISHER = """
import dataclasses, sys
from pathlib import Path
from moodring.publish.mqtt.connection import BrokerAddress, Credentials
from moodring.publish.mqtt.sink import MqttSettings, MqttSink
from moodring.publish.mqtt.spool import Spool
from tests.publish.test_events import EVENT

port, folder = int(sys.argv[1]), Path(sys.argv[2])
settings = MqttSettings(BrokerAddress("127.0.0.1", port, tls=False), Credentials("moodring-test"), "moodring/kitchen/live")
sink = MqttSink(settings, Spool(folder / "events.spool", max_bytes=10**8, max_age_s=1e6), print)
sink.open()
for number in range(10**6):
    sink.publish(dataclasses.replace(EVENT, seq=number))
    print(number, flush=True)
"""


def test_kill_9_loses_no_event_and_turns_the_stream_offline(tmp_path: Path):
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
        with sink(broker.port, tmp_path, Log()):
            subscriber.wait_for(lambda s: set(reported) <= set(numbers(s)), 60)
        assert without_repeats(numbers(subscriber))[: len(reported)] == reported


# TLS and passwords


@contextmanager
def refused(broker: Broker, folder: Path, **options: object) -> Iterator[Log]:
    """Publish to a broker that must not get it; the test says what must be logged. Nothing may arrive."""
    log = Log()
    with sink(broker.port, folder, log, **options) as mqtt:
        mqtt.publish(EVENT)
        yield log
        assert mqtt.spooled >= 1
        assert not mqtt.connected
    assert not any("moodring/kitchen" in line for line in broker.log().splitlines() if "Received PUBLISH" in line)


def tls_lines(server: Path, key: Path, *more: str) -> list[str]:
    return [f"certfile {server}", f"keyfile {key}", *(more or ["allow_anonymous true"])]


def test_tls_with_the_right_authority(tmp_path: Path):
    ca, server, key = write_certificates(tmp_path / "right")
    with Broker(tmp_path, *tls_lines(server, key)) as broker:
        options = {"tls": True, "credentials": Credentials("moodring-test", ca_file=ca), "host": "localhost"}
        with (
            Subscriber(broker.port, f"{TOPIC}/#", ca_file=ca) as subscriber,
            sink(broker.port, tmp_path, Log(), **options) as mqtt,
        ):
            for event in numbered(*range(200)):
                mqtt.publish(event)
            subscriber.wait_for(lambda s: numbers(s) == list(range(200)))


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path):
    _, server, key = write_certificates(tmp_path / "right")
    wrong_ca, _, _ = write_certificates(tmp_path / "wrong")
    with Broker(tmp_path, *tls_lines(server, key)) as broker:
        for credentials in (
            Credentials("moodring-test", ca_file=wrong_ca),
            Credentials("moodring-test"),
        ):  # another, and the system's
            with refused(broker, tmp_path, tls=True, credentials=credentials) as log:
                log.wait_for("is not trusted", "mqtt.ca_file", "does not fall back to a plain connection", "trying again")


def test_an_expired_certificate_is_refused(tmp_path: Path):
    ca, server, key = write_certificates(tmp_path / "old", expired=True)
    options = {"tls": True, "credentials": Credentials("moodring-test", ca_file=ca)}
    with Broker(tmp_path, *tls_lines(server, key)) as broker, refused(broker, tmp_path, **options) as log:
        log.wait_for("is not trusted: certificate has expired", "does not fall back")


def test_a_certificate_for_another_name_is_refused(tmp_path: Path):
    ca, server, key = write_certificates(tmp_path / "other", names="DNS:elsewhere.example")
    options = {"tls": True, "credentials": Credentials("moodring-test", ca_file=ca)}
    with Broker(tmp_path, *tls_lines(server, key)) as broker, refused(broker, tmp_path, **options) as log:
        log.wait_for("is not trusted: IP address mismatch", "127.0.0.1", "does not fall back")


def test_a_plain_port_gets_no_plain_connection(tmp_path: Path):
    with Broker(tmp_path) as broker, refused(broker, tmp_path, tls=True) as log:
        log.wait_for("does not speak TLS on this port", "mqtt.url", "does not fall back to a plain connection", seconds=30)
    assert "New client connected" not in broker.log()


def test_a_tls_port_that_is_spoken_to_plainly_is_said(tmp_path: Path):
    _, server, key = write_certificates(tmp_path / "right")
    with Broker(tmp_path, *tls_lines(server, key)) as broker, refused(broker, tmp_path) as log:
        log.wait_for("closed the connection", "does it ask for TLS (mqtts://)", seconds=30)


def test_a_client_certificate_is_shown_where_it_is_asked_for(tmp_path: Path):
    ca, server, key = write_certificates(tmp_path / "right")
    with Broker(
        tmp_path, *tls_lines(server, key, f"cafile {ca}", "require_certificate true", "use_identity_as_username true")
    ) as broker:
        with refused(broker, tmp_path, tls=True, credentials=Credentials("moodring-test", ca_file=ca)) as log:
            log.wait_for("trying again", seconds=30)
        shown = Credentials("moodring-test", ca_file=ca, certificate_file=server, key_file=key)
        log = Log()
        with sink(broker.port, tmp_path, log, tls=True, credentials=shown) as mqtt:
            mqtt.publish(EVENT)
            deadline = time.monotonic() + 10
            while mqtt.spooled:
                assert time.monotonic() < deadline, log.messages
                time.sleep(0.02)


@pytest.mark.parametrize("protocol", ["mqtt5", "mqtt311"])
def test_a_wrong_password_is_refused_and_never_logged(tmp_path: Path, protocol: str):
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "moodring", "right"], check=True, capture_output=True)
    with Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        wrong = Credentials("moodring-test", "moodring", "s3cret-wrong")
        with refused(broker, tmp_path, credentials=wrong, protocol=protocol) as log:
            log.wait_for("refuses the login", "mqtt.password_file", "trying again")
            assert not any("s3cret" in message for message in log.messages)
            assert "s3cret" not in repr(wrong)
        with (
            Subscriber(broker.port, f"{TOPIC}/#", username="moodring", password="right") as subscriber,
            sink(
                broker.port, tmp_path, Log(), credentials=Credentials("moodring-test", "moodring", "right"), protocol=protocol
            ),
        ):
            subscriber.wait_for(lambda s: numbers(s) == [7])


def test_tries_come_ever_more_slowly(tmp_path: Path):
    times: list[float] = []
    with sink(free_port(), tmp_path, Log()) as mqtt:
        converse = mqtt._run_connection
        enough = threading.Event()

        def noted() -> None:
            times.append(time.monotonic())
            if len(times) == 5:
                enough.set()
            converse()

        mqtt._run_connection = noted
        assert enough.wait(20)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[-1] > 2 * gaps[0]
    assert sum(gaps) < 15


def test_a_topic_that_may_not_be_written_is_said_and_the_event_kept(tmp_path: Path):
    access = tmp_path / "access"
    access.write_text(f"topic write {TOPIC}/availability\n")
    access.chmod(0o600)
    log = Log()
    with Broker(tmp_path, "allow_anonymous true", f"acl_file {access}") as broker, sink(broker.port, tmp_path, log) as mqtt:
        mqtt.publish(EVENT)
        log.wait_for("refuses a message", "may this user publish")
        assert mqtt.spooled == 1


def test_sensors_that_are_no_longer_wanted_are_withdrawn(tmp_path: Path):
    with Broker(tmp_path) as broker, Subscriber(broker.port, "#") as subscriber:
        with sink(broker.port, tmp_path, Log(), discovery_prefix="homeassistant"):
            subscriber.wait_for(lambda s: len(s.payloads("config")) == 6)
        with sink(broker.port, tmp_path, Log(), discovery_prefix="elsewhere"):
            subscriber.wait_for(lambda s: len(s.payloads("config")) == 6 + 6 + 6)
        with sink(broker.port, tmp_path, Log()):
            subscriber.wait_for(lambda s: len(s.payloads("config")) == 6 + 6 + 6 + 6)
        with Subscriber(broker.port, "#") as late:
            late.wait_for(lambda s: s.payloads("availability"))
            assert late.payloads("config") == []
        with sink(broker.port, tmp_path, Log()) as mqtt:  # nothing is left to withdraw
            mqtt.publish(EVENT)
            subscriber.wait_for(lambda s: s.payloads("events"))
            assert len(subscriber.payloads("config")) == 24


@pytest.mark.parametrize("limit", ["max_packet_size 700", "message_size_limit 700"])
def test_an_event_that_the_broker_will_never_take_is_dropped_and_counted(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("moodring.publish.mqtt.sink.BACKOFF_MAX_S", 0.1)
    log = Log()
    small = dataclasses.replace(EVENT, seq=8, face=None, speech=None, probabilities=None, faces=(), bundle_id="")
    assert len(to_json(small)) < 600 < 800 < len(to_json(EVENT))
    with (
        Broker(tmp_path, "allow_anonymous true", limit) as broker,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        sink(broker.port, tmp_path, log) as mqtt,
    ):
        for event in (EVENT, small, EVENT, small):
            mqtt.publish(event)
        subscriber.wait_for(lambda s: len(s.payloads("events")) >= 2)
        log.wait_for("does not take an event for its size")
        deadline = time.monotonic() + 20
        while mqtt.spooled and time.monotonic() < deadline:
            mqtt._stopping.wait(0.02)
    assert set(subscriber.payloads("events")) == {to_json(small)}
    with Spool(tmp_path / "events.spool", max_bytes=10_000_000, max_age_s=1e6) as spool:
        assert sum(spool.dropped.values()) == 2
        assert spool.pending == 0
