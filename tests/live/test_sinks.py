"""`moodring run` with several sinks: they receive the same events, and a wrong configuration is reported at the start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.devices.mjpeg import SoftwareCamera
from tests.support.events import check_event, check_lines, check_status
from tests.support.servers.broker import Broker, Subscriber, free_port
from tests.support.signals import face_frame

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "moodring.cli", "run", "--config"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
TOPIC = "moodring/test/stream"


def write_config(bundle: Path, folder: Path, *lines: str) -> Path:
    path = folder / "config.yaml"
    path.write_text("\n".join([f"bundle: {bundle}", *lines, ""]))
    return path


def mqtt_lines(port: int, folder: Path) -> str:
    spool = f"spool: {{path: {folder / 'events.spool'}}}"
    return f"mqtt: {{url: 'mqtt://127.0.0.1:{port}', topic: {TOPIC}, home_assistant: {{enabled: true}}, {spool}}}"


@contextlib.contextmanager
def start_run(config: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, str(config), "--video", url, "--audio", "none"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_live_run_publishes_the_same_events_to_all_sinks(tiny_bundle: Path, tmp_path: Path):
    pytest.importorskip("prometheus_client", reason="no prometheus_client: pip install 'moodring[metrics]'")
    lines, port = tmp_path / "events.jsonl", free_port()
    with Broker(tmp_path) as broker, Subscriber(broker.port, "#") as subscriber, SoftwareCamera(face_frame) as camera:
        config = write_config(
            tiny_bundle, tmp_path, f"events: {{path: {lines}, status: false}}", mqtt_lines(broker.port, tmp_path),
            f"metrics: {{enabled: true, port: {port}}}",
        )  # fmt: skip
        with start_run(config, camera.url) as run:
            subscriber.wait_for(lambda s: len(s.payloads("events")) >= 15 and len(s.payloads("status")) >= 2, 60)
            subscriber.wait_for(lambda s: any(json.loads(body)["data"]["modalities"] for body in s.payloads("state")))
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").read() == b"ok\n"
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
            run.send_signal(signal.SIGINT)
            assert run.wait(20) == 130
            stderr = run.stderr.read()
        subscriber.wait_for(lambda s: s.payloads("availability") == ["online", "offline"])
    assert "Traceback" not in stderr
    published = check_lines(lines.read_text())
    received = [json.loads(body) for body in subscriber.payloads("events")]
    assert received == published
    for body in subscriber.payloads("state"):
        check_event(json.loads(body))
    for body in subscriber.payloads("status"):
        check_status(json.loads(body))
    status = json.loads(subscriber.payloads("status")[-1])["data"]
    assert {"see", "fuse", "publish"} <= set(status["latency"])
    assert status["sinks"]["mqtt"]["connected"] is True
    counters = status["counters"]
    assert counters["events"] >= 5
    dropped = sum(count for reason, count in status["dropped"].items() if reason.startswith("frames_"))
    assert (
        0 <= counters["frames_captured"] - counters["frames_tracked"] - dropped <= 2
    )  # one in the buffer, one in process_frame
    assert 'moodring_device_state{device="camera",state="ok"} 1.0' in metrics
    assert sum(topic.startswith("homeassistant/sensor/moodring_test_stream/") for topic, _, _ in subscriber.messages) == 6


def test_next_run_delivers_the_events_of_a_killed_run(tiny_bundle: Path, tmp_path: Path):
    lines = tmp_path / "events.jsonl"
    with (
        Broker(tmp_path) as broker,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        SoftwareCamera(face_frame) as camera,
    ):
        config = write_config(tiny_bundle, tmp_path, f"events: {{path: {lines}}}", mqtt_lines(broker.port, tmp_path))
        with start_run(config, camera.url) as run:
            subscriber.wait_for(lambda s: len(s.payloads("events")) >= 5, 60)
            run.send_signal(signal.SIGKILL)
            run.wait()
            subscriber.wait_for(lambda s: s.payloads("availability") == ["online", "offline"])
        with start_run(config, camera.url):
            subscriber.wait_for(lambda s: s.payloads("availability") == ["online", "offline", "online"], 60)
            subscriber.wait_for(lambda s: len({json.loads(body)["source"] for body in s.payloads("events")}) == 2, 30)
    by_source: dict[str, list[int]] = {}
    for event in map(json.loads, subscriber.payloads("events")):
        by_source.setdefault(event["source"], []).append(event["data"]["seq"])
    for numbers in by_source.values():
        assert list(dict.fromkeys(numbers)) == list(range(len(set(numbers))))


def test_blocked_standard_output_does_not_delay_mqtt(tiny_bundle: Path, tmp_path: Path):
    with (
        Broker(tmp_path) as broker,
        Subscriber(broker.port, f"{TOPIC}/#") as subscriber,
        SoftwareCamera(face_frame) as camera,
    ):
        config = write_config(tiny_bundle, tmp_path, "fusion: {rate_hz: 50.0}", mqtt_lines(broker.port, tmp_path))
        command = [*COMMAND, str(config), "--video", camera.url, "--audio", "none"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
        subscriber.wait_for(lambda s: len(s.payloads("events")) >= 300, 60)  # the unread pipe holds 64 KiB, far fewer events
        run.kill()
        run.stdout.close()
        run.wait()
    numbers = [json.loads(body)["data"]["seq"] for body in subscriber.payloads("events")]
    assert list(dict.fromkeys(numbers)) == list(range(len(set(numbers))))


def run_recording(bundle: Path, folder: Path, recording: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, str(write_config(bundle, folder, *lines)), str(recording), "--pace", "max", "--events", "none"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)


def test_recording_reaches_the_broker_complete_with_stable_ids(tiny_bundle: Path, tmp_path: Path, talking_face: Path):
    with Broker(tmp_path) as broker, Subscriber(broker.port, f"{TOPIC}/#") as subscriber:
        for count in (1, 2):
            done = run_recording(tiny_bundle, tmp_path, talking_face, mqtt_lines(broker.port, tmp_path))
            assert done.returncode == 0, done.stderr
            subscriber.wait_for(lambda s, n=15 * count: len(s.payloads("events")) == n)
    bodies = subscriber.payloads("events")
    assert bodies[:15] == bodies[15:]


INVALID = {
    "mqtt: {url: broker.local}": "mqtt.url must be mqtts://HOST",
    "mqtt: {url: 'mqtt://me:s3cret@host'}": "set mqtt.username and mqtt.password_file",
    "mqtt: {url: 'mqtt://host:99999'}": "mqtt.url: the port must be from 1 to 65535; got mqtt://host:99999",
    "mqtt: {url: 'mqtt://host', topic: 'a/#'}": (
        "mqtt.topic must not be empty, contain #, + or control characters, start with $, or start or end with /; got 'a/#'"
    ),
    "mqtt: {url: 'mqtt://host', home_assistant: {enabled: true, prefix: 'ha/#'}}": (
        "config.yaml:2: mqtt.home_assistant.prefix must not be empty, contain #, + or control characters"
    ),
    "mqtt: {url: 'mqtt://host', ca_file: /no/such/file}": "mqtt.ca_file /no/such/file is not a file",
    f"mqtt: {{url: 'mqtt://host', ca_file: {'x' * 5000}}}": "x is not a file",
    "mqtt: {url: 'mqtt://host', username: me, password_file: /no/such}": "mqtt.password_file /no/such cannot be read",
}


@pytest.mark.parametrize("line", INVALID)
def test_invalid_mqtt_option_is_reported_in_one_line(tiny_bundle: Path, tmp_path: Path, talking_face: Path, line: str):
    done = run_recording(tiny_bundle, tmp_path, talking_face, line)
    assert done.returncode == 2
    (message,) = done.stderr.splitlines()
    assert INVALID[line] in message
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        ("mqtt: {url: 'mqtt://127.0.0.1'}", "paho", "mqtt"),
        ("metrics: {enabled: true}", "prometheus_client", "metrics"),
        ("lsl: {enabled: true}", "pylsl", "lsl"),
    ],
)
def test_missing_extra_is_named(tiny_bundle: Path, tmp_path: Path, talking_face: Path, line: str, package: str, extra: str):
    hidden = f"import sys; sys.modules['{package}'] = None; from moodring.cli import main; sys.exit(main())"
    config = write_config(tiny_bundle, tmp_path, line)
    done = subprocess.run(
        [sys.executable, "-c", hidden, "run", "--config", str(config), str(talking_face), "--pace", "max"],
        capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"pip install 'moodring[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
