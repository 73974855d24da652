"""A run that is muted, watched over and told to end, each as an operating system does it: by signals and a socket."""

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

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def command(bundle: Path, folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], None]]]:
    """`moodring run` before a software camera, and what waits until its events hold a text that they did not before."""
    config, events = folder / "config.yaml", folder / "events.jsonl"
    config.write_text(f"bundle: {bundle}\n")
    with SoftwareCamera(face_frame) as camera:
        start = [sys.executable, "-m", "moodring.cli", "run", "--config", str(config), "--video", camera.url, "--audio", "none"]
        running = subprocess.Popen(
            [*start, "--events", str(events)],
            stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        )  # fmt: skip
        read = 0

        def wait_for(text: str) -> None:
            nonlocal read
            deadline = time.monotonic() + 20
            while not (events.exists() and text in events.read_text()[read:]):
                assert time.monotonic() < deadline, (text, events.read_text()[read:] if events.exists() else "")
                assert running.poll() is None, running.communicate()[1]
                time.sleep(0.02)
            read = len(events.read_text())

        try:
            yield running, wait_for
        finally:
            running.kill()
            running.wait(10)
    check_lines(events.read_text())


def test_sigusr1_mutes_the_picture_and_lets_it_in_again(tiny_bundle: Path, tmp_path: Path):
    with command(tiny_bundle, tmp_path) as (running, wait_for):
        wait_for('"modalities":["face"]')
        running.send_signal(signal.SIGUSR1)
        wait_for('"camera":"muted"')
        wait_for('"camera":"muted"')
        running.send_signal(signal.SIGUSR1)
        wait_for('"modalities":["face"]')
        running.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        _, said = running.communicate(timeout=10)
        assert time.monotonic() - begun < 2.0
    assert "the camera is muted" in said
    assert "the camera is on" in said
    muted = [event["data"] for event in check_lines((tmp_path / "events.jsonl").read_text())
             if event["data"]["devices"]["camera"] == "muted"]  # fmt: skip
    assert all(data["face"] is None and data["faces"] == [] and data["label"] is None for data in muted)
    assert {data["state"] for data in muted} == {"no_signal"}


def test_a_muted_camera_is_told_apart_from_a_lost_one_and_comes_back(tiny_bundle: Path):
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url)) as run:
        run.wait_for(lambda e: e.modalities == ("face",), 10)
        assert run.live.toggle_mute("camera")
        assert not run.live.toggle_mute("microphone")  # there is none
        run.wait_for(lambda e: e.devices["camera"] == "muted", 2)
        assert not run.live.toggle_mute("camera")
        run.wait_for(lambda e: e.modalities == ("face",), 5)


def test_systemd_is_told_that_the_run_is_ready_and_lives(tiny_bundle: Path, tmp_path: Path):
    address = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(20)
        with command(tiny_bundle, tmp_path, NOTIFY_SOCKET=str(address)) as (_, wait_for):
            assert systemd.recv(1000) == b"READY=1"
            assert systemd.recv(1000).startswith(b"WATCHDOG=1\nSTATUS=")
            wait_for('"modalities":["face"]')
            while b"STATUS=ok; camera ok" not in systemd.recv(1000):
                pass


def test_a_hung_reader_gets_no_sign_of_life(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    address = tmp_path / "notify.sock"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url)) as run:
        event = run.wait_for(lambda e: e.modalities == ("face",), 10)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(address))
            systemd.settimeout(2)
            told = Systemd()
            told.notify_status({"live": event, "other": None}, alive=False)  # not ready: one stream has said nothing yet
            told.notify_status({"live": event}, alive=False)
            assert systemd.recv(1000) == b"READY=1"
            told.notify_status({"live": event}, alive=run.live.makes_progress())
            assert systemd.recv(1000) == b"WATCHDOG=1\nSTATUS=ok; camera ok, microphone absent"
            told.notify_status({"hall": event, "door": event}, alive=True)
            assert b"STATUS=hall: ok; camera ok, microphone absent. door: ok" in systemd.recv(1000)
        told.notify_status({"live": event}, alive=True)  # nobody listens any more: no reason to fail
