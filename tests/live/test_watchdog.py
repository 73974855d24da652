"""A service manager ends and restarts a daemon that hangs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.devices.mjpeg import SoftwareCamera
from tests.support.signals import face_frame
from tests.support.systemd import Supervisor

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_daemon_that_hangs_is_restarted(tiny_bundle: Path, tmp_path: Path):
    config, events = tmp_path / "config.yaml", tmp_path / "events.jsonl"
    with SoftwareCamera(face_frame) as camera:
        config.write_text(
            f"bundle: {tiny_bundle}\nvideo: {{source: '{camera.url}'}}\naudio: {{source: none}}\nevents: {{path: {events}}}\n"
        )
        command = [sys.executable, "-m", "moodring.cli", "run", "--config", str(config)]
        with Supervisor(command, tmp_path, watchdog_s=5.0, environment={"PYTHONPATH": str(ROOT)}) as systemd:
            wait_for(lambda: len(systemd.ready) == 1)
            hung = systemd.ready[0]
            os.kill(hung, signal.SIGSTOP)
            wait_for(lambda: len(systemd.ready) == 2)
            assert systemd.hung == [hung]
            told = len(events.read_text().splitlines())
            wait_for(lambda: len(events.read_text().splitlines()) > told + 5)
        lines = events.read_text().splitlines()
    assert all(line.startswith('{"specversion"') and line.endswith("}") for line in lines)
    assert len({line.split('"id":"')[1].split('"')[0].rpartition("/")[0] for line in lines}) == 2
