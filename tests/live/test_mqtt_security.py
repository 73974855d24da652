"""MQTT security against a Mosquitto broker: TLS, client certificates and passwords."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moodring.publish.mqtt.connection import Credentials
from tests.support.example_events import EVENT
from tests.support.servers.broker import Broker, Subscriber, write_certificates
from tests.support.servers.mqtt import TOPIC, Log, make_events, open_sink, received_numbers

pytestmark = pytest.mark.live

NO_FALLBACK = "does not fall back to an unencrypted connection"


@contextmanager
def refusing(broker: Broker, folder: Path, **options: object) -> Iterator[Log]:
    """Publish an event that must not arrive. The test checks the log."""
    log = Log()
    with open_sink(broker.port, folder, log, **options) as mqtt:
        mqtt.publish(EVENT)
        yield log
        assert mqtt.spooled >= 1
        assert not mqtt.connected
    assert not any("moodring/kitchen" in line for line in broker.log().splitlines() if "Received PUBLISH" in line)


def tls_lines(server: Path, key: Path, *access: str) -> list[str]:
    return [f"certfile {server}", f"keyfile {key}", *(access or ["allow_anonymous true"])]


def test_tls_with_the_right_authority_delivers(tmp_path: Path):
    ca, server, key = write_certificates(tmp_path / "right")
    with Broker(tmp_path, *tls_lines(server, key)) as broker:
        options = {"tls": True, "credentials": Credentials("moodring-test", ca_file=ca), "host": "localhost"}
        with (
            Subscriber(broker.port, f"{TOPIC}/#", ca_file=ca) as subscriber,
            open_sink(broker.port, tmp_path, Log(), **options) as mqtt,
        ):
            for event in make_events(*range(200)):
                mqtt.publish(event)
            subscriber.wait_for(lambda s: received_numbers(s) == list(range(200)))


def test_certificate_of_another_authority_is_rejected(tmp_path: Path):
    _, server, key = write_certificates(tmp_path / "right")
    wrong_ca, _, _ = write_certificates(tmp_path / "wrong")
    with Broker(tmp_path, *tls_lines(server, key)) as broker:
        for credentials in (
            Credentials("moodring-test", ca_file=wrong_ca),
            Credentials("moodring-test"),  # the system's authorities
        ):
            with refusing(broker, tmp_path, tls=True, credentials=credentials) as log:
                log.wait_for("TLS certificate rejected", "mqtt.ca_file", NO_FALLBACK, "retrying")


def test_expired_certificate_is_rejected(tmp_path: Path):
    ca, server, key = write_certificates(tmp_path / "old", expired=True)
    options = {"tls": True, "credentials": Credentials("moodring-test", ca_file=ca)}
    with Broker(tmp_path, *tls_lines(server, key)) as broker, refusing(broker, tmp_path, **options) as log:
        log.wait_for("TLS certificate rejected: certificate has expired", NO_FALLBACK)


def test_certificate_for_another_name_is_rejected(tmp_path: Path):
    ca, server, key = write_certificates(tmp_path / "other", names="DNS:elsewhere.example")
    options = {"tls": True, "credentials": Credentials("moodring-test", ca_file=ca)}
    with Broker(tmp_path, *tls_lines(server, key)) as broker, refusing(broker, tmp_path, **options) as log:
        log.wait_for("TLS certificate rejected: IP address mismatch", "127.0.0.1", NO_FALLBACK)


def test_tls_does_not_fall_back_on_a_port_without_tls(tmp_path: Path):
    with Broker(tmp_path) as broker, refusing(broker, tmp_path, tls=True) as log:
        log.wait_for("no TLS on this port", "mqtt.url", NO_FALLBACK, seconds=30)
    assert "New client connected" not in broker.log()


def test_connection_without_tls_to_a_tls_port_is_explained(tmp_path: Path):
    _, server, key = write_certificates(tmp_path / "right")
    with Broker(tmp_path, *tls_lines(server, key)) as broker, refusing(broker, tmp_path) as log:
        log.wait_for("connection closed", "check whether this port requires TLS (mqtts://)", seconds=30)


def test_client_certificate_is_sent(tmp_path: Path):
    ca, server, key = write_certificates(tmp_path / "right")
    with Broker(
        tmp_path, *tls_lines(server, key, f"cafile {ca}", "require_certificate true", "use_identity_as_username true")
    ) as broker:
        with refusing(broker, tmp_path, tls=True, credentials=Credentials("moodring-test", ca_file=ca)) as log:
            log.wait_for("retrying", seconds=30)
        with_certificate = Credentials("moodring-test", ca_file=ca, certificate_file=server, key_file=key)
        log = Log()
        with open_sink(broker.port, tmp_path, log, tls=True, credentials=with_certificate) as mqtt:
            mqtt.publish(EVENT)
            deadline = time.monotonic() + 10
            while mqtt.spooled:
                assert time.monotonic() < deadline, log.messages
                time.sleep(0.02)


@pytest.mark.parametrize("protocol", ["mqtt5", "mqtt311"])
def test_wrong_password_is_refused_and_never_logged(tmp_path: Path, protocol: str):
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "moodring", "right"], check=True, capture_output=True)
    with Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        wrong = Credentials("moodring-test", "moodring", "s3cret-wrong")
        with refusing(broker, tmp_path, credentials=wrong, protocol=protocol) as log:
            log.wait_for("login refused", "mqtt.password_file", "retrying")
            assert not any("s3cret" in message for message in log.messages)
            assert "s3cret" not in repr(wrong)
        with (
            Subscriber(broker.port, f"{TOPIC}/#", username="moodring", password="right") as subscriber,
            open_sink(
                broker.port, tmp_path, Log(), credentials=Credentials("moodring-test", "moodring", "right"), protocol=protocol
            ),
        ):
            subscriber.wait_for(lambda s: received_numbers(s) == [7])
