"""A live camera made of software: seen, lost, found again; and everything ends when it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moodring.capture.camera import Camera, open_camera
from moodring.capture.network import NetworkCamera
from moodring.errors import DeviceError
from moodring.types import EmotionEvent
from tests.support.devices.mjpeg import SoftwareCamera
from tests.support.events import check_lines
from tests.support.signals import empty_frame, face_frame
from tests.support.watched import monitored_run

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]


def seen(event: EmotionEvent) -> bool:
    return event.devices["camera"] == "ok" and event.modalities == ("face",)


def lost(event: EmotionEvent) -> bool:
    return event.devices["camera"] == "lost"


def test_frames_come_at_the_cameras_rate_with_rising_times():
    with SoftwareCamera(face_frame) as camera, NetworkCamera(camera.url) as reader:
        frames = [reader.read().decode_frame() for _ in range(30)]
    times = [frame.capture_time_ns for frame in frames]
    assert times == sorted(set(times))
    assert [frame.seq for frame in frames] == list(range(30))
    assert frames[0].grey.shape == (240, 320)
    # The first frames come from the buffer in one go; the rest at 30 a second.
    assert (times[-1] - times[9]) / 1e9 == pytest.approx(20 / 30, abs=0.25)


def test_a_camera_that_is_not_there_says_so():
    with pytest.raises(DeviceError, match="/dev/video97 is not there"):
        Camera("/dev/video97").open()
    with pytest.raises(DeviceError, match="cannot be opened"):
        open_camera("http://127.0.0.1:9/").open()
    with pytest.raises(DeviceError, match="is not open"):
        Camera("0").read()


def test_a_camera_that_stops_fails_and_is_well_again_once_reopened():
    with SoftwareCamera(face_frame) as camera, NetworkCamera(camera.url) as reader:
        reader.read()
        camera.unplug()
        with pytest.raises(DeviceError, match="gives no more frames"):
            [reader.read() for _ in range(100)]
        camera.plug_in()
        reader.open()
        assert reader.read().decode_frame().grey.shape == (240, 320)
        reader.close()
        reader.close()


def test_a_face_is_seen_lost_with_its_camera_and_seen_again(tiny_bundle: Path):
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url)) as run:
        event = run.wait_for(seen, 10)
        assert 0 <= event.latency_ms < 1000
        assert len(event.faces) == 1
        camera.unplug()
        run.wait_for(lambda e: e.devices["camera"] == "lost" and e.face is None and e.faces == (), 2)
        event = run.wait_for(lost, 2)
        assert (event.state, event.label, event.modalities) == ("no_signal", None, ())
        camera.plug_in()
        run.wait_for(seen, 5)
        assert any("gives no more frames" in message for message in run.log_lines)
        assert any(message.endswith(": back") for message in run.log_lines)


def test_a_camera_that_comes_later_is_taken(tiny_bundle: Path):
    with SoftwareCamera(face_frame) as camera:
        camera.unplug()
        with monitored_run(tiny_bundle, open_camera(camera.url)) as run:
            assert run.wait_for(lost, 5).state == "no_signal"
            camera.plug_in()
            run.wait_for(seen, 5)


def test_a_camera_that_sees_nobody_is_ok_all_the_same(tiny_bundle: Path):
    with SoftwareCamera(empty_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url)) as run:
        event = run.wait_for(lambda e: e.devices["camera"] == "ok", 10)
        assert (event.state, event.faces) == ("no_face", ())


# The command

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def command(bundle: Path, folder: Path, url: str, *arguments: str) -> list[str]:
    config = folder / "config.yaml"
    config.write_text(f"bundle: {bundle}\n")
    start = [sys.executable, "-m", "moodring.cli", "run", "--config", str(config), "--video", url, "--audio", "none"]
    return [*start, "--events", str(folder / "events.jsonl"), *arguments]


def test_the_command_watches_a_camera_for_so_many_seconds(tiny_bundle: Path, tmp_path: Path):
    with SoftwareCamera(face_frame) as camera:
        done = subprocess.run(
            command(tiny_bundle, tmp_path, camera.url, "--seconds", "3"),
            capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr
    events = check_lines((tmp_path / "events.jsonl").read_text())
    assert 10 <= len(events) <= 15
    assert sum(event["data"]["modalities"] == ["face"] for event in events) >= 7
    assert all(event["data"]["latency_ms"] >= 0 for event in events if event["data"]["modalities"])
    opening, networks, summary, *_ = done.stderr.splitlines()
    assert "nothing is stored" in opening
    assert "networks: face onnx fp32" in networks
    assert f"{len(events)} events" in summary


def test_the_command_ends_cleanly_when_interrupted_even_while_its_camera_is_gone(tiny_bundle: Path, tmp_path: Path):
    with SoftwareCamera(face_frame) as camera:
        running = subprocess.Popen(
            command(tiny_bundle, tmp_path, camera.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        events = tmp_path / "events.jsonl"
        deadline = time.monotonic() + 30
        while not (events.exists() and '"modalities":["face"]' in events.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        camera.unplug()
        while '"camera":"lost"' not in events.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=15)
    assert running.returncode == 130
    assert stderr.splitlines()[-1] == "moodring: interrupted"
    assert all(line.startswith("moodring: ") for line in stderr.splitlines()), stderr
    check_lines(events.read_text())
