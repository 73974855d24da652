"""A simulated live camera: its face is detected, the camera is lost and reopened, and the run ends as requested."""

from __future__ import annotations

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


def has_face(event: EmotionEvent) -> bool:
    return event.devices["camera"] == "ok" and event.modalities == ("face",)


def camera_lost(event: EmotionEvent) -> bool:
    return event.devices["camera"] == "lost"


def test_frames_arrive_at_the_frame_rate_with_increasing_times():
    with SoftwareCamera(face_frame) as camera, NetworkCamera(camera.url) as reader:
        frames = [reader.read().decode_frame() for _ in range(30)]
    times = [frame.capture_time_ns for frame in frames]
    assert times == sorted(set(times))
    assert [frame.seq for frame in frames] == list(range(30))
    assert frames[0].grey.shape == (240, 320)
    # The first frames are in the buffer and arrive at once; the others arrive at 30 Hz.
    assert (times[-1] - times[9]) / 1e9 == pytest.approx(20 / 30, abs=0.25)


def test_an_absent_camera_raises_device_error():
    with pytest.raises(DeviceError, match="/dev/video97 does not exist"):
        Camera("/dev/video97").open()
    with pytest.raises(DeviceError, match="cannot be opened"):
        open_camera("http://127.0.0.1:9/").open()
    with pytest.raises(DeviceError, match="is not open"):
        Camera("0").read()


def test_a_camera_that_stops_raises_device_error_and_works_after_reopening():
    with SoftwareCamera(face_frame) as camera, NetworkCamera(camera.url) as reader:
        reader.read()
        camera.unplug()
        with pytest.raises(DeviceError, match="stopped sending frames"):
            [reader.read() for _ in range(100)]
        camera.plug_in()
        reader.open()
        assert reader.read().decode_frame().grey.shape == (240, 320)
        reader.close()
        reader.close()


def test_a_face_disappears_when_its_camera_is_lost_and_returns_when_it_reconnects(tiny_bundle: Path):
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url)) as run:
        event = run.wait_for(has_face, 10)
        assert 0 <= event.latency_ms < 1000
        assert len(event.faces) == 1
        camera.unplug()
        run.wait_for(lambda e: e.devices["camera"] == "lost" and e.face is None and e.faces == (), 2)
        event = run.wait_for(camera_lost, 2)
        assert (event.state, event.label, event.modalities) == ("no_signal", None, ())
        camera.plug_in()
        run.wait_for(has_face, 5)
        assert any("stopped sending frames" in message for message in run.log_lines)
        assert any(message.endswith(": reconnected") for message in run.log_lines)


def test_a_camera_that_is_plugged_in_later_is_opened(tiny_bundle: Path):
    with SoftwareCamera(face_frame) as camera:
        camera.unplug()
        with monitored_run(tiny_bundle, open_camera(camera.url)) as run:
            assert run.wait_for(camera_lost, 5).state == "no_signal"
            camera.plug_in()
            run.wait_for(has_face, 5)


def test_a_camera_without_a_face_in_view_is_ok(tiny_bundle: Path):
    with SoftwareCamera(empty_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url)) as run:
        event = run.wait_for(lambda e: e.devices["camera"] == "ok", 10)
        assert (event.state, event.faces) == ("no_face", ())


# The command


def command(bundle: Path, folder: Path, url: str, *arguments: str) -> list[str]:
    config = folder / "config.yaml"
    config.write_text(f"bundle: {bundle}\n")
    run = [sys.executable, "-m", "moodring.cli", "run", "--config", str(config), "--video", url, "--audio", "none"]
    return [*run, "--events", str(folder / "events.jsonl"), *arguments]


def test_the_command_runs_for_the_given_number_of_seconds(tiny_bundle: Path, tmp_path: Path):
    with SoftwareCamera(face_frame) as camera:
        done = subprocess.run(
            command(tiny_bundle, tmp_path, camera.url, "--seconds", "3"),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr
    events = check_lines((tmp_path / "events.jsonl").read_text())
    assert 10 <= len(events) <= 15
    assert sum(event["data"]["modalities"] == ["face"] for event in events) >= 7
    assert all(event["data"]["latency_ms"] >= 0 for event in events if event["data"]["modalities"])
    sources, networks, summary, *_ = done.stderr.splitlines()
    assert "nothing is stored" in sources
    assert "networks: face onnx fp32" in networks
    assert f"{len(events)} events" in summary


def test_the_command_ends_cleanly_on_an_interrupt_while_its_camera_is_lost(tiny_bundle: Path, tmp_path: Path):
    with SoftwareCamera(face_frame) as camera:
        running = subprocess.Popen(
            command(tiny_bundle, tmp_path, camera.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
