"""Several streams in one process, and a reload of the configuration, which leaves unchanged streams running."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.devices.mjpeg import SoftwareCamera
from tests.support.events import check_event, check_status
from tests.support.signals import empty_frame, face_frame

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]


class Daemon:
    """`moodring run --config` in a separate process."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.config, self.events, self._errors = folder / "config.yaml", folder / "events.jsonl", folder / "errors.txt"
        self._settings: dict[str, Any] = {
            "bundle": str(bundle), "fusion": {"rate_hz": 10.0}, "events": {"path": str(self.events), "status": True},
        }  # fmt: skip

    def configure(self, **settings: Any) -> None:
        self._settings |= settings
        self.config.write_text(yaml.safe_dump(self._settings, sort_keys=False))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        command = [sys.executable, "-m", "moodring.cli", "run", "--config", str(self.config)]
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=errors, env=os.environ | {"PYTHONPATH": str(ROOT)}
            )
        try:
            yield
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(10) == 130, self.said
        finally:
            self._process.kill()
            self._process.wait(10)

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    @property
    def said(self) -> str:
        return self._errors.read_text()

    def told(self, path: Path | None = None) -> list[dict[str, Any]]:
        path = path or self.events
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, f"{what}; it said {self.said} and told {self.told()[-2:]}"
            time.sleep(0.02)
        return found

    def wait_for_event(self, stream: str, fits: Callable[[dict[str, Any]], bool], since: int = 0) -> None:
        """Wait until an event of a stream fits, among those after the first `since` lines."""
        self.wait_for(
            lambda: any(name(one) == stream and fits(one["data"]) for one in self.told()[since:] if is_emotion(one)),
            f"no such event of {stream}",
        )


def name(event: dict[str, Any]) -> str:
    return event["source"].split("/")[3]


def is_emotion(event: dict[str, Any]) -> bool:
    return event["type"] == "moodring.emotion.v1"


def sees(data: dict[str, Any]) -> bool:
    return data["modalities"] == ["face"]


def by_stream(told: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the emotion events of each stream, all validated, with consecutive sequence numbers."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in told:
        (check_event if is_emotion(one) else check_status)(one)
        if is_emotion(one):
            found.setdefault(name(one), []).append(one)
    for events in found.values():
        assert [event["data"]["seq"] for event in events] == list(range(len(events)))
        assert len({event["source"] for event in events}) == 1
    return found


def test_two_streams_are_independent_when_one_camera_is_lost(tiny_bundle: Path, tmp_path: Path):
    daemon = Daemon(tiny_bundle, tmp_path)
    with SoftwareCamera(face_frame) as hall, SoftwareCamera(empty_frame) as door:
        daemon.configure(streams={"hall": {"video": {"source": hall.url}}, "door": {"video": {"source": door.url}}})
        with daemon.running():
            daemon.wait_for_event("hall", sees)
            daemon.wait_for_event("door", lambda data: data["state"] == "no_face" and data["devices"]["camera"] == "ok")
            door.unplug()
            daemon.wait_for_event("door", lambda data: data["devices"]["camera"] == "lost")
            since = len(daemon.told())
            daemon.wait_for(lambda: len(daemon.told()) > since + 10, "no more events")
            after = by_stream(daemon.told())["hall"][-4:]
            assert all(sees(event["data"]) for event in after)
            door.plug_in()
            daemon.wait_for_event("door", lambda data: data["devices"]["camera"] == "ok", since)
    found = by_stream(daemon.told())
    assert set(found) == {"hall", "door"}
    assert abs(len(found["hall"]) - len(found["door"])) <= 1
    assert "hall: " in daemon.said
    assert f"from camera {hall.url} and microphone - as 'hall'; nothing is stored" in daemon.said


def test_a_reload_changes_only_what_differs_and_loses_no_event(tiny_bundle: Path, tmp_path: Path):
    daemon = Daemon(tiny_bundle, tmp_path)
    elsewhere = tmp_path / "elsewhere.jsonl"
    with SoftwareCamera(face_frame) as hall, SoftwareCamera(face_frame) as door:
        streams = {"hall": {"video": {"source": hall.url}}}
        daemon.configure(streams=streams)
        with daemon.running():
            daemon.wait_for_event("hall", sees)

            daemon.configure(fusion={"rate_hz": "often"})  # invalid: the previous one stays
            daemon.reload()
            daemon.wait_for(lambda: "is not valid, the previous one stays" in daemon.said, "nothing said")
            assert "fusion.rate_hz must be a number, got 'often'" in daemon.said
            daemon.wait_for_event("hall", sees, len(daemon.told()))

            daemon.configure(fusion={"rate_hz": 10.0}, streams=streams | {"door": {"video": {"source": door.url}}})
            daemon.reload()
            daemon.wait_for_event("door", sees)
            assert "stream door, sinks changed" in daemon.said

            daemon.configure(smoothing={"time_constant_s": 0.0})
            daemon.reload()
            daemon.wait_for(lambda: "stream hall, stream door changed" in daemon.said, "nothing said")
            since = len(daemon.told())
            daemon.wait_for_event("hall", sees, since)

            daemon.configure(events={"path": str(tmp_path / "no such folder" / "x.jsonl"), "status": True})
            daemon.reload()
            daemon.wait_for(lambda: "the new sinks cannot be opened, the previous ones stay" in daemon.said, "nothing said")
            daemon.wait_for_event("hall", sees, len(daemon.told()))

            daemon.configure(events={"path": str(elsewhere), "status": True})
            daemon.reload()
            daemon.wait_for(lambda: len(daemon.told(elsewhere)) > 10, "nothing elsewhere")

            daemon.configure(streams={"door": {"video": {"source": door.url}}})
            daemon.reload()
            daemon.wait_for(lambda: "hall: " in daemon.said and "stream hall, sinks changed" in daemon.said, "nothing said")
            daemon.reload()
            daemon.wait_for(lambda: "nothing changed" in daemon.said, "nothing said")
    found = by_stream(daemon.told() + daemon.told(elsewhere))
    assert set(found) == {"hall", "door"}
    times = [event["data"]["capture_time_ns"] for event in found["hall"]]
    assert max(b - a for a, b in itertools.pairwise(times)) < 2e9
    counted = [one["data"] for one in daemon.told() + daemon.told(elsewhere) if not is_emotion(one) and name(one) == "hall"]
    captured = [data["counters"]["frames_captured"] for data in counted]
    assert captured == sorted(captured), "counters go on over a reload"
    assert "reopened" not in daemon.said


def test_a_mute_schedule_applies_from_the_start_until_it_changes(tiny_bundle: Path, tmp_path: Path):
    daemon = Daemon(tiny_bundle, tmp_path)
    always, never = {"camera": "00:00-24:00"}, {"camera": "none"}
    with SoftwareCamera(face_frame) as hall, SoftwareCamera(face_frame) as door:
        streams = {"hall": {"video": {"source": hall.url}}}
        daemon.configure(streams=streams, mute=always)
        with daemon.running():
            daemon.wait_for(lambda: len(daemon.told()) > 10, "no events")
            assert {one["data"]["devices"]["camera"] for one in daemon.told() if is_emotion(one)} == {"muted"}
            assert hall.request_count == 0, "it was opened"
            assert "the camera is muted, by the mute schedule" in daemon.said

            daemon.configure(streams=streams | {"door": {"video": {"source": door.url}}})  # a new stream is muted too
            daemon.reload()
            daemon.wait_for_event("door", lambda data: data["devices"]["camera"] == "muted")
            assert door.request_count == 0

            daemon.configure(mute=never)
            daemon.reload()
            daemon.wait_for_event("hall", sees)
            daemon.wait_for_event("door", sees)
            assert "mute changed" in daemon.said

            daemon.configure(mute=always)
            daemon.reload()
            daemon.wait_for_event("hall", lambda data: data["devices"]["camera"] == "muted", len(daemon.told()))
    by_stream(daemon.told())


def test_streams_exclude_video_options_and_recordings(tiny_bundle: Path, tmp_path: Path):
    config = tmp_path / "config.yaml"
    for streams, more, message in (
        ({"hall": {"video": {"source": "0"}}}, ["--video", "1"], "set their video and audio there"),
        ({"hall": {"video": {"source": str(config)}}}, [], "streams must be live"),
    ):
        config.write_text(yaml.safe_dump({"bundle": str(tiny_bundle), "streams": streams}))
        done = subprocess.run(
            [sys.executable, "-m", "moodring.cli", "run", "--config", str(config), *more],
            capture_output=True, text=True, timeout=30, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
