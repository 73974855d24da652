"""`moodring run`: its sources, the destinations of its events, and the agreement of two runs."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from moodring.capture.camera import default_camera
from moodring.capture.microphone import default_microphone
from tests.support.events import check_lines
from tests.support.recordings import write_recording
from tests.support.signals import face_frame, voice

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "moodring.cli", "run"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def config(tiny_bundle: Path, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"bundle: {tiny_bundle}\n")
    return path


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=ENVIRONMENT | environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_give_identical_bytes(config: Path, talking_face: Path):
    one, other = (
        run(talking_face, "--config", config, "--pace", "max", PYTHONHASHSEED=seed, TZ=zone).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    )
    assert len(check_lines(one)) == 15
    assert one == other


def test_video_and_audio_from_two_files(config: Path, tmp_path: Path):
    picture = write_recording(tmp_path / "face.mp4", video_frames=[face_frame(i) for i in range(50)])
    sound = write_recording(tmp_path / "voice.wav", sound=voice(2.0))
    events = check_lines(run("--video", picture, "--audio", sound, "--config", config, "--pace", "max").stdout)
    assert sum(len(event["data"]["modalities"]) == 2 for event in events) >= 4
    alone = check_lines(run("--video", picture, "--config", config, "--pace", "max").stdout)
    assert {event["data"]["devices"]["microphone"] for event in alone} == {"absent"}
    alone = check_lines(run("--audio", sound, "--config", config, "--pace", "max").stdout)
    assert {event["data"]["devices"]["camera"] for event in alone} == {"absent"}


def test_the_command_line_overrides_the_events_path_of_the_configuration(config: Path, tmp_path: Path):
    sound = write_recording(tmp_path / "voice.wav", sound=voice(1.0))
    configured, named = tmp_path / "configured.jsonl", tmp_path / "named.jsonl"
    config.write_text(config.read_text() + f"events:\n  path: {configured}\n")
    assert run(sound, "--config", config, "--pace", "max").stdout == ""
    assert len(check_lines(configured.read_text())) == 5
    assert run(sound, "--config", config, "--pace", "max", "--events", named).stdout == ""
    assert named.read_text() == configured.read_text()
    assert run(sound, "--config", config, "--pace", "max", "--events", "-").stdout == named.read_text()
    assert run(sound, "--config", config, "--pace", "max", "--events", "none").stdout == ""


def test_the_summary_accounts_for_all_captured_data(config: Path, talking_face: Path):
    (summary,) = run(talking_face, "--config", config, "--pace", "max").stderr.splitlines()
    assert summary.startswith("moodring: 15 events (")
    assert "75 frames: 45 searched, 30 skipped above the face rate" in summary
    assert "3.0 s of sound" in summary


def test_a_terminal_shows_a_panel_and_no_json(config: Path, talking_face: Path):
    controller, terminal = pty.openpty()
    running = subprocess.Popen(
        [*COMMAND, str(talking_face), "--config", str(config), "--pace", "max"],
        stdout=terminal, stderr=subprocess.PIPE, env=ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(terminal)
    shown = bytearray()
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        shown += piece
    os.close(controller)
    assert running.wait(30) == 0
    running.stderr.close()
    text = shown.decode()
    assert "talking_face.mp4" in text
    assert "together" in text
    assert "specversion" not in text


def test_the_bundled_clip_is_played_without_devices(config: Path):
    if default_camera() is not None or default_microphone() is not None:
        pytest.skip("this machine has a camera or a microphone")
    done = run("--config", config, "--pace", "max", "--seconds", "4")
    assert "this machine has no camera and no microphone; playing the bundled clip" in done.stderr
    events = check_lines(done.stdout)
    assert len(events) == 20
    assert any(len(event["data"]["modalities"]) == 2 for event in events)
