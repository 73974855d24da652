"""Control of a live run by the operating system: signals and the notification socket of systemd."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moodring.capture.camera import open_camera
from moodring.run.signals import Systemd
from tests.support.devices.mjpeg import SoftwareCamera
from tests.support.events import check_lines
from tests.support.signals import face_frame
from tests.support.watched import monitored_run

pytestmark = pytest.mark.live


@contextmanager
def run_command(
    bundle: Path, folder: Path, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], None]]]:
    """Start `moodring run` on a simulated camera. Yield the process and a function that waits for a text in new events."""
    config, events = folder / "config.yaml", folder / "events.jsonl"
    config.write_text(f"bundle: {bundle}\n")
    with SoftwareCamera(face_frame) as camera:
        command = [
            sys.executable,
            "-m",
            "moodring.cli",
            "run",
            "--config",
            str(config),
            "--video",
            camera.url,
            "--audio",
            "none",
        ]
        running = subprocess.Popen(
            [*command, "--events", str(events)], stderr=subprocess.PIPE, text=True, env=os.environ | environment
        )
        position = 0

        def wait_for(text: str) -> None:
            nonlocal position
            deadline = time.monotonic() + 20
            while not (events.exists() and text in events.read_text()[position:]):
                assert time.monotonic() < deadline, (text, events.read_text()[position:] if events.exists() else "")
                assert running.poll() is None, running.communicate()[1]
                time.sleep(0.02)
            position = len(events.read_text())

        try:
            yield running, wait_for
        finally:
            running.kill()
            running.wait(10)
    check_lines(events.read_text())


def test_sigusr1_mutes_and_unmutes_camera(tiny_bundle: Path, tmp_path: Path):
    with run_command(tiny_bundle, tmp_path) as (running, wait_for):
        wait_for('"modalities":["face"]')
        running.send_signal(signal.SIGUSR1)
        wait_for('"camera":"muted"')
        wait_for('"camera":"muted"')
        running.send_signal(signal.SIGUSR1)
        wait_for('"modalities":["face"]')
        running.send_signal(signal.SIGTERM)
        start = time.monotonic()
        _, log = running.communicate(timeout=10)
        assert time.monotonic() - start < 2.0
    assert "the camera is muted" in log
    assert "the camera is on" in log
    muted = [event["data"] for event in check_lines((tmp_path / "events.jsonl").read_text())
             if event["data"]["devices"]["camera"] == "muted"]  # fmt: skip
    assert all(data["face"] is None and data["faces"] == [] and data["label"] is None for data in muted)
    assert {data["state"] for data in muted} == {"no_signal"}


def test_muted_camera_is_reported_and_returns(tiny_bundle: Path):
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url)) as run:
        run.wait_for(lambda e: e.modalities == ("face",), 10)
        assert run.live.toggle_mute("camera")
        assert not run.live.toggle_mute("microphone")  # there is no microphone
        run.wait_for(lambda e: e.devices["camera"] == "muted", 2)
        assert not run.live.toggle_mute("camera")
        run.wait_for(lambda e: e.modalities == ("face",), 5)


def test_systemd_receives_ready_and_keep_alive(tiny_bundle: Path, tmp_path: Path):
    address = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(20)
        with run_command(tiny_bundle, tmp_path, NOTIFY_SOCKET=str(address)) as (_, wait_for):
            assert systemd.recv(1000) == b"READY=1"
            assert systemd.recv(1000).startswith(b"WATCHDOG=1\nSTATUS=")
            wait_for('"modalities":["face"]')
            while b"STATUS=ok; camera ok" not in systemd.recv(1000):
                pass


def test_keep_alive_stops_without_progress(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    address = tmp_path / "notify.sock"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url)) as run:
        event = run.wait_for(lambda e: e.modalities == ("face",), 10)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(address))
            systemd.settimeout(2)
            notifier = Systemd()
            notifier.notify_status({"live": event, "other": None}, alive=False)  # not ready: one stream has no event yet
            notifier.notify_status({"live": event}, alive=False)
            assert systemd.recv(1000) == b"READY=1"
            notifier.notify_status({"live": event}, alive=run.live.makes_progress())
            assert systemd.recv(1000) == b"WATCHDOG=1\nSTATUS=ok; camera ok, microphone absent"
            notifier.notify_status({"hall": event, "door": event}, alive=True)
            assert b"STATUS=hall: ok; camera ok, microphone absent. door: ok" in systemd.recv(1000)
        notifier.notify_status({"live": event}, alive=True)  # the socket is closed: no error
