"""Standard streams that are closed at the start, or whose reader goes: messages never reach the events, and no run fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.events import check_lines

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "moodring.cli"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
CLOSED = ["0<&-", "2>&-", "0<&- 2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"]


@pytest.fixture
def config(tiny_bundle: Path, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"bundle: {tiny_bundle}\n")
    return path


def shell(redirection: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run moodring with a redirection of the shell."""
    return subprocess.run(
        ["bash", "-c", f'exec "$@" {redirection}', "bash", *COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("redirection", CLOSED)
def test_the_event_file_holds_events_alone(config: Path, talking_face: Path, tmp_path: Path, redirection: str):
    events = tmp_path / "events.jsonl"
    done = shell(redirection, "run", talking_face, "--config", config, "--pace", "max", "--events", events)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert len(check_lines(events.read_text())) == 15


@pytest.mark.parametrize("redirection", ["2>&-", "0<&- 2>&-", "2>/dev/full", "2> >(true)", "2</dev/null"])
def test_standard_output_holds_events_alone_and_lost_messages_end_no_run(config: Path, talking_face: Path, redirection: str):
    done = shell(redirection, "run", talking_face, "--config", config, "--pace", "max")
    assert done.returncode == 0
    assert len(check_lines(done.stdout)) == 15


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system has no /proc/PID/fd")
def test_no_file_takes_the_place_of_a_closed_standard_stream(config: Path, talking_face: Path, tmp_path: Path):
    events = tmp_path / "events.jsonl"
    arguments = ["run", talking_face, "--config", config, "--events", events]
    running = subprocess.Popen(
        ["bash", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "bash", *COMMAND, *map(str, arguments)], env=ENVIRONMENT
    )
    try:
        deadline = time.monotonic() + 30
        while not (events.exists() and events.stat().st_size):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        opened = [str(Path(f"/proc/{running.pid}/fd/{number}").readlink()) for number in range(3)]
    finally:
        running.kill()
        running.wait()
    assert opened == ["/dev/null", "/dev/full", "/dev/null"]


def test_events_to_a_closed_standard_output_are_not_lost_silently(config: Path, talking_face: Path):
    for path in ("-", "/dev/stdout"):
        done = shell("1>&-", "run", talking_face, "--config", config, "--pace", "max", "--events", path)
        assert done.returncode == 1
        assert "moodring: events cannot be written to" in done.stderr


@pytest.mark.parametrize("redirection", ["1>&-", "2>&-", "0<&- 1>&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["doctor"], (0, 1)), (["devices"], (0, 1)), (["--help"], (0,)), (["run", "none.mp4"], (2,)), (["none"], (2,))],
)
def test_exit_codes_do_not_depend_on_the_standard_streams(redirection: str, arguments: list[str], code: tuple[int, ...]):
    done = shell(redirection, *arguments)
    assert done.returncode in code
    assert "Traceback" not in done.stdout + done.stderr
