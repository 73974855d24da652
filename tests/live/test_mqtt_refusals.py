"""What an MQTT broker refuses is set aside, counted and named, and blocks neither the other events nor later runs."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moodring.publish.cloudevents import to_json
from moodring.publish.mqtt.spool import Spool
from tests.support.example_events import EVENT, STATUS
from tests.support.servers.broker import Broker, Subscriber
from tests.support.servers.closing_proxy import ClosingProxy
from tests.support.servers.mqtt import TOPIC, Log, make_events, open_sink, received_numbers

pytestmark = pytest.mark.live

LARGE = dataclasses.replace(EVENT, seq=1000)
SMALL = dataclasses.replace(EVENT, face=None, speech=None, probabilities=None, faces=(), bundle_id="")
PREFIX = "homeassistant"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moodring.publish.mqtt.sink.BACKOFF_MAX_S", 0.1)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def access_list(folder: Path, *lines: str) -> tuple[str, str]:
    """Return the configuration lines of a broker that allows only these topics."""
    file = folder / "access"
    file.write_text("\n".join([*lines, ""]))
    file.chmod(0o600)
    return "allow_anonymous true", f"acl_file {file}"


def set_aside(folder: Path) -> list[int]:
    """Return the numbers of the events in the file beside the spool."""
    file = folder / "events.spool.refused.jsonl"
    return [json.loads(line)["data"]["seq"] for line in file.read_text().splitlines()] if file.exists() else []


def dropped(folder: Path) -> dict[str, int]:
    """Return the counts of the spool; assert that no event is left in it."""
    with Spool(folder / "events.spool", max_bytes=10_000_000, max_age_s=1e6) as spool:
        assert spool.pending == 0
        return spool.dropped


def wait_for_events(subscriber: Subscriber, numbers: set[int]) -> None:
    """Wait until exactly these events have arrived."""
    subscriber.wait_for(lambda s: set(received_numbers(s)) >= numbers)
    assert set(received_numbers(subscriber)) == numbers


def small(seq: int):
    return dataclasses.replace(SMALL, seq=seq)


# Events


@pytest.mark.parametrize(
    ("protocol", "limit", "reason"),
    [
        ("mqtt5", "max_packet_size 700", "too_large_for_broker"),
        ("mqtt5", "message_size_limit 700", "refused_by_broker"),
        ("mqtt311", "max_packet_size 700", "refused_by_broker"),
    ],
)
def test_large_events_in_a_row_do_not_block_the_others(tmp_path: Path, protocol: str, limit: str, reason: str):
    assert len(to_json(SMALL)) < 600 < 800 < len(to_json(LARGE))
    log = Log()
    events = [small(0), *[dataclasses.replace(LARGE, seq=seq) for seq in (1, 2, 3)], small(4), LARGE, small(5)]
    with (
        Broker(tmp_path, "allow_anonymous true", limit) as broker,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(broker.port, tmp_path, log, protocol=protocol) as mqtt,
    ):
        for event in events:
            mqtt.publish(event)
        wait_until(lambda: mqtt.spooled == 0, 40)
        wait_for_events(subscriber, {0, 4, 5})
    assert list(dict.fromkeys(received_numbers(subscriber))) == [0, 4, 5]
    assert set_aside(tmp_path) == [1, 2, 3, 1000]
    assert dropped(tmp_path) == {reason: 4}
    log.wait_for(f"event {EVENT.source}/1 is refused", "sets it aside in", f"counted as {reason}")
    log.wait_for("4 events were refused; they are in", "events.spool.refused.jsonl")
    assert (tmp_path / "events.spool.refused.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_event_that_is_alone_in_the_spool_is_set_aside(tmp_path: Path):
    with (
        Broker(tmp_path, "allow_anonymous true", "max_packet_size 700") as broker,
        open_sink(broker.port, tmp_path, Log(), protocol="mqtt311") as mqtt,
    ):
        mqtt.publish(LARGE)
        wait_until(lambda: mqtt.spooled == 0)
    assert dropped(tmp_path) == {"refused_by_broker": 1}


def test_refusals_of_short_runs_add_up(tmp_path: Path):
    """Each run ends after the first refusal; the event still does not stay at the head for ever."""
    with Broker(tmp_path, *access_list(tmp_path, f"topic write {TOPIC}/availability")) as broker:
        for _ in range(4):
            assert set_aside(tmp_path) == []
            log = Log()
            with open_sink(broker.port, tmp_path, log) as mqtt:
                if mqtt.spooled == 0:
                    mqtt.publish(LARGE)
                log.wait_for("refused")
        wait_until(lambda: set_aside(tmp_path) == [1000])
    assert dropped(tmp_path) == {"refused_by_broker": 1}


def test_events_on_a_forbidden_topic_are_set_aside_until_it_is_allowed(tmp_path: Path):
    log = Log()
    with (
        Broker(tmp_path, *access_list(tmp_path, f"topic write {TOPIC}/availability", f"topic read {TOPIC}/#")) as broker,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(broker.port, tmp_path, log) as mqtt,
    ):
        for event in make_events(*range(30)):
            mqtt.publish(event)
        log.wait_for("message refused: Not authorized; check that this user may publish to the topic", "retrying")
        wait_until(lambda: mqtt.spooled == 0)
        start_s = time.monotonic()
        for event in make_events(*range(30, 500)):
            mqtt.publish(event)
        wait_until(lambda: mqtt.spooled == 0)
        assert time.monotonic() - start_s < 10  # without a new connection for each event
        assert set_aside(tmp_path) == list(range(500))
        log.wait_for(f"messages to {TOPIC}/state are refused (Not authorized", "moodring continues without them")
        broker.kill()
        access_list(tmp_path, f"topic readwrite {TOPIC}/#")
        broker.start()
        subscriber.wait_until_connected()
        for event in make_events(*range(500, 520)):
            mqtt.publish(event)
        subscriber.wait_for(lambda s: set(range(500, 520)) <= set(received_numbers(s)))
    assert dropped(tmp_path) == {"refused_by_broker": 500}
    log.wait_for("500 events were refused; they are in", "(500 x Not authorized; check that this user may publish")


def test_one_event_that_the_broker_answers_with_an_error_does_not_delay_the_others(tmp_path: Path):
    """The access list is mended while the events of one stream wait: what is sent again arrives, in order."""
    log = Log()
    with (
        Broker(tmp_path, *access_list(tmp_path, f"topic write {TOPIC}/availability", f"topic read {TOPIC}/#")) as broker,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(broker.port, tmp_path, log) as mqtt,
    ):
        for event in make_events(*range(5)):
            mqtt.publish(event)
        log.wait_for("message refused")
        broker.kill()
        access_list(tmp_path, f"topic readwrite {TOPIC}/#")
        broker.start()
        subscriber.wait_until_connected()
        wait_until(lambda: mqtt.spooled == 0)
        subscriber.wait_for(lambda s: list(dict.fromkeys(received_numbers(s))) == list(range(5)))
    assert set_aside(tmp_path) == []


def test_nothing_is_set_aside_while_the_broker_accepts_nothing(tmp_path: Path):
    with (
        Broker(tmp_path) as broker,
        ClosingProxy(broker.port, b"/availability\0") as proxy,  # the last will in the login
        open_sink(proxy.port, tmp_path, Log()) as mqtt,
    ):
        mqtt.publish(LARGE)
        proxy.refused = b"online"
        wait_until(lambda: proxy.closed >= 3)
        assert mqtt.spooled == 1
        broker.kill()
        wait_until(lambda: not mqtt.connected)
        assert mqtt.spooled == 1
        broker.start()
        proxy.refused = b"nothing"
        wait_until(lambda: mqtt.spooled == 0)
    assert set_aside(tmp_path) == []


@pytest.mark.parametrize("protocol", ["mqtt5", "mqtt311"])
def test_an_event_for_which_the_broker_closes_the_connection_is_set_aside(tmp_path: Path, protocol: str):
    with (
        Broker(tmp_path) as broker,
        ClosingProxy(broker.port, b'"seq":7,') as proxy,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(proxy.port, tmp_path, Log(), protocol=protocol) as mqtt,
    ):
        for event in make_events(*range(15)):
            mqtt.publish(event)
        wait_until(lambda: mqtt.spooled == 0, 30)
        wait_for_events(subscriber, set(range(15)) - {7})
    assert set_aside(tmp_path) == [7]


def test_with_mqtt_311_an_access_list_refuses_without_notice(tmp_path: Path):
    """Mosquitto acknowledges the event and drops it; docs/events.md states that this cannot be noticed."""
    with (
        Broker(tmp_path, *access_list(tmp_path, f"topic write {TOPIC}/availability")) as broker,
        open_sink(broker.port, tmp_path, Log(), protocol="mqtt311") as mqtt,
    ):
        mqtt.publish(EVENT)
        wait_until(lambda: mqtt.spooled == 0)
    assert dropped(tmp_path) == {}


def test_a_file_that_cannot_take_the_event_is_named(tmp_path: Path):
    log = Log()
    (tmp_path / "events.spool.refused.jsonl").mkdir()
    with (
        Broker(tmp_path, "allow_anonymous true", "max_packet_size 700") as broker,
        open_sink(broker.port, tmp_path, log) as mqtt,
    ):
        mqtt.publish(LARGE)
        log.wait_for("drops it, because", "cannot be written (Is a directory), counted as too_large_for_broker")
        wait_until(lambda: mqtt.spooled == 0)
    log.wait_for("1 events were refused; not all of them are in")
    assert dropped(tmp_path) == {"too_large_for_broker": 1}


def test_the_file_is_limited_as_the_spool_is(tmp_path: Path):
    log = Log()
    (tmp_path / "events.spool.refused.jsonl").write_bytes(b"x" * 9_999_000 + b"\n")
    with (
        Broker(tmp_path, "allow_anonymous true", "max_packet_size 700") as broker,
        open_sink(broker.port, tmp_path, log) as mqtt,
    ):
        mqtt.publish(LARGE)
        log.wait_for("has reached mqtt.spool.max_mb, counted as too_large_for_broker")
        wait_until(lambda: mqtt.spooled == 0)


# Messages that are not events


@pytest.mark.parametrize("topic", ["state", "status", "availability"])
def test_a_forbidden_topic_beside_the_events_does_not_block_them(tmp_path: Path, topic: str):
    allowed = [f"topic readwrite {TOPIC}/{name}" for name in ("events", "state", "status", "availability") if name != topic]
    log = Log()
    with (
        Broker(tmp_path, *access_list(tmp_path, *allowed)) as broker,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(broker.port, tmp_path, log) as mqtt,
    ):
        for event in make_events(*range(30)):
            mqtt.publish(event)
            mqtt.publish(STATUS)
        subscriber.wait_for(lambda s: received_numbers(s) == list(range(30)))
        log.wait_for(f"messages to {TOPIC}/{topic} are refused (Not authorized")
    assert not [message for message in log.messages if "retrying" in message]


@pytest.mark.parametrize("topic", ["state", "status"])
def test_a_topic_that_ends_the_connection_is_no_longer_used(tmp_path: Path, topic: str):
    log = Log()
    with (
        Broker(tmp_path) as broker,
        ClosingProxy(broker.port, f"{TOPIC}/{topic}".encode()) as proxy,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(proxy.port, tmp_path, log, protocol="mqtt311") as mqtt,
    ):
        for number in range(1000):
            mqtt.publish(*make_events(number))
            mqtt.publish(STATUS)
            if any(f"messages to {TOPIC}/{topic} are refused" in message for message in log.messages):
                break
            threading.Event().wait(0.02)
        log.wait_for(f"messages to {TOPIC}/{topic} are refused (the broker closes the connection")
        wait_until(lambda: mqtt.spooled == 0)
        wait_for_events(subscriber, set(range(number + 1)))
    assert set_aside(tmp_path) == []


def test_a_topic_that_the_broker_accepts_in_between_is_still_used(tmp_path: Path):
    """In months of operation, a broker often goes away while a message is on its way."""
    log = Log()
    with (
        Broker(tmp_path) as broker,
        ClosingProxy(broker.port, b"nothing") as proxy,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(proxy.port, tmp_path, log, protocol="mqtt311") as mqtt,
    ):
        for count in range(1, 7):
            proxy.refused = f"{TOPIC}/status".encode()
            while proxy.closed < count:
                mqtt.publish(STATUS)
                threading.Event().wait(0.02)
            proxy.refused = b"nothing"
            arrived = len(subscriber.payloads("status"))
            while len(subscriber.payloads("status")) < arrived + 2:
                mqtt.publish(STATUS)
                threading.Event().wait(0.02)
    assert not [message for message in log.messages if "are refused" in message]


def test_forbidden_sensors_do_not_block_the_events(tmp_path: Path):
    log = Log()
    with (
        Broker(tmp_path, *access_list(tmp_path, f"topic readwrite {TOPIC}/#")) as broker,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(broker.port, tmp_path, log, discovery_prefix=PREFIX) as mqtt,
    ):
        for event in make_events(*range(30)):
            mqtt.publish(event)
        subscriber.wait_for(lambda s: received_numbers(s) == list(range(30)))
        log.wait_for(f"messages to {PREFIX}/sensor/moodring_kitchen_live/spool/config are refused (Not authorized")
    assert not [message for message in log.messages if "retrying" in message]


@pytest.mark.parametrize("limit", ["max_packet_size 600", ""])
@pytest.mark.parametrize("protocol", ["mqtt5", "mqtt311"])
def test_sensors_that_the_broker_does_not_take_do_not_block_the_events(tmp_path: Path, protocol: str, limit: str):
    """They are too large, or the broker closes the connection on them."""
    log = Log()
    with (
        Broker(tmp_path, "allow_anonymous true", *[limit] * bool(limit)) as broker,
        ClosingProxy(broker.port, b"nothing" if limit else PREFIX.encode()) as proxy,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        open_sink(proxy.port, tmp_path, log, discovery_prefix=PREFIX, protocol=protocol) as mqtt,
    ):
        for number in range(30):
            mqtt.publish(small(number))
        log.wait_for(f"messages to {PREFIX}/sensor/moodring_kitchen_live/spool/config are refused", seconds=40)
        mqtt.publish(small(30))
        wait_until(lambda: mqtt.spooled == 0)
        wait_for_events(subscriber, set(range(31)))
    assert set_aside(tmp_path) == []


def test_sensors_of_an_earlier_version_with_a_wrong_prefix_do_not_block_the_events(tmp_path: Path):
    with Spool(tmp_path / "events.spool", max_bytes=10_000_000, max_age_s=1e6) as spool:
        spool.append(to_json(LARGE))
        spool.store_announced(["ha/#/sensor/x/camera/config", "old/sensor/x/camera/config"])
    with (
        Broker(tmp_path) as broker,
        Subscriber(broker.port, "#") as subscriber,
        open_sink(broker.port, tmp_path, Log()) as mqtt,
    ):
        wait_until(lambda: mqtt.spooled == 0)
        subscriber.wait_for(lambda s: s.payloads("config") == [""])
    with Spool(tmp_path / "events.spool", max_bytes=10_000_000, max_age_s=1e6) as spool:
        assert spool.announced() == set()


def test_a_sensor_whose_withdrawal_is_refused_stays_on_record(tmp_path: Path):
    with Spool(tmp_path / "events.spool", max_bytes=10_000_000, max_age_s=1e6) as spool:
        spool.store_announced(["old/sensor/x/camera/config"])
    log = Log()
    with (
        Broker(tmp_path, *access_list(tmp_path, f"topic readwrite {TOPIC}/#")) as broker,
        open_sink(broker.port, tmp_path, log),
    ):
        log.wait_for("messages to old/sensor/x/camera/config are refused")
    with Spool(tmp_path / "events.spool", max_bytes=10_000_000, max_age_s=1e6) as spool:
        assert spool.announced() == {"old/sensor/x/camera/config"}


def test_refusal_counts_of_removed_events_are_forgotten(tmp_path: Path):
    path = tmp_path / "events.spool"
    with Spool(path, max_bytes=10_000_000, max_age_s=1e6) as spool:
        position = spool.append("one")
        assert [spool.count_refusal(position) for _ in range(3)] == [1, 2, 3]
        spool.remove_delivered([position])
    with Spool(path, max_bytes=10_000_000, max_age_s=1e6) as spool:
        assert spool.append("two") == position  # the position is used again
        assert spool.count_refusal(position) == 1
    assert sqlite3.connect(path).execute("SELECT * FROM refusals").fetchall() == [(position, 1)]
