"""HTTP cameras as they are: unusual streams, damaged frames, single images, and an image that never changes."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from moodring.capture.http.snapshot import SnapshotCamera
from moodring.capture.network import NetworkCamera
from moodring.errors import DeviceError
from moodring.types import EmotionEvent
from tests.support.devices.wild_camera import HEADER, WildCamera, snapshot_of, stream_of
from tests.support.events import check_lines
from tests.support.media.wild_jpegs import STREAMS, jpeg, truncated, with_thumbnail
from tests.support.watched import monitored_run

pytestmark = pytest.mark.live


def has_face(event: EmotionEvent) -> bool:
    return event.devices["camera"] == "ok" and "face" in event.modalities


def run_command(
    bundle: Path, folder: Path, url: str, *arguments: str, seconds: float = 4
) -> tuple[list[dict], list[dict], list[str]]:
    """Run the command; return its emotion events, its status events and the lines of its log."""
    events = folder / "events.jsonl"
    command = [sys.executable, "-m", "moodring.cli", "run", "--video", url, "--audio", "none", "--seconds", str(seconds)]
    options = ["--set", f"bundle={bundle}", "--events", str(events), "--set", "events.status=true", *arguments]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("moodring: ") for line in done.stderr.splitlines()), done.stderr
    lines = events.read_text().splitlines()
    emotions = check_lines("".join(f"{line}\n" for line in lines if '"moodring.emotion.v1"' in line))
    return emotions, [json.loads(line) for line in lines if '"moodring.status.v1"' in line], done.stderr.splitlines()


@pytest.mark.parametrize("unusual", STREAMS)
def test_the_frames_of_an_unusual_stream_arrive_at_their_rate(unusual: str):
    frames = [with_thumbnail(jpeg(index)) if index % 4 == 2 else jpeg(index) for index in range(30)]

    def respond(_request: str, _index: int) -> Iterable[bytes]:
        yield HEADER
        body = STREAMS[unusual](frames)
        starts = [0, *(body.index(frame) + len(frame) for frame in frames)]
        yield from (body[start:end] for start, end in itertools.pairwise(starts))
        yield body[starts[-1] :]

    with WildCamera(respond) as wild, NetworkCamera(f"http://{wild.host}/") as camera:
        start_s = time.monotonic()
        for index in range(len(frames)):
            frame = camera.read().decode_frame()
            assert frame is not None, index
            assert (frame.grey.shape, frame.seq) == ((240, 320), index)
        assert time.monotonic() - start_s < 3
    assert len(wild.requests) == 1


def test_a_damaged_frame_now_and_then_is_counted_and_does_not_reconnect(tiny_bundle: Path, tmp_path: Path):
    with WildCamera(stream_of(lambda index: truncated(jpeg(index % 60)) if index % 5 == 4 else jpeg(index % 60))) as wild:
        emotions, statuses, log = run_command(tiny_bundle, tmp_path, f"http://{wild.host}/")
    assert len(wild.requests) == 1
    assert statuses[-1]["data"]["dropped"]["frames_damaged"] >= 5
    assert statuses[-1]["data"]["counters"]["devices_reopened"] == 0
    assert any(re.fullmatch(r"moodring: \d+ damaged frames", line) for line in log)
    assert {event["data"]["devices"]["camera"] for event in emotions[5:]} == {"ok"}
    assert sum("face" in event["data"]["modalities"] for event in emotions) >= 10


def test_a_camera_that_sends_only_damaged_frames_is_lost_and_reopened(tiny_bundle: Path, tmp_path: Path):
    def respond(request: str, index: int) -> Iterable[bytes]:
        return stream_of(lambda count: jpeg(count % 60) if index >= 2 else truncated(jpeg(count % 60)))(request, index)

    with WildCamera(respond) as wild:
        emotions, statuses, log = run_command(tiny_bundle, tmp_path, f"http://{wild.host}/", seconds=6)
    assert len(wild.requests) == 3
    assert f"moodring: camera http://{wild.host}/ sends damaged frames" in log
    assert f"moodring: http://{wild.host}/: reconnected" in log
    assert "lost" in {event["data"]["devices"]["camera"] for event in emotions}
    assert emotions[-1]["data"]["devices"]["camera"] == "ok"
    assert statuses[-1]["data"]["counters"]["devices_reopened"] == 2


# Single images


def test_an_address_of_one_image_is_reported_with_the_remedy():
    with WildCamera(snapshot_of(jpeg)) as wild:
        advice = rf"camera http://{wild.host}/snap\.jpg sent one JPEG image, not a stream: .* set video\.snapshot_hz"
        with pytest.raises(DeviceError, match=advice):
            NetworkCamera(f"http://{wild.host}/snap.jpg").open()


def test_an_address_of_one_image_is_requested_at_the_rate(tiny_bundle: Path, tmp_path: Path):
    with WildCamera(snapshot_of(lambda index: jpeg(index % 60))) as wild:
        url = f"http://me:word@{wild.host}/snap.jpg?size=vga"
        emotions, statuses, log = run_command(tiny_bundle, tmp_path, url, "--set", "video.snapshot_hz=5", seconds=4)
    assert 15 <= len(wild.requests) <= 22
    assert wild.requests[0].startswith("GET /snap.jpg?size=vga HTTP/1.0\r\n")
    assert "Authorization: Basic bWU6d29yZA==" in wild.requests[0]
    assert sum("face" in event["data"]["modalities"] for event in emotions) >= 10
    assert {event["data"]["devices"]["camera"] for event in emotions[4:]} == {"ok"}
    assert statuses[-1]["data"]["counters"]["devices_reopened"] == 0
    assert not any("word" in line or "vga" in line for line in log)


def digest(request: str, index: int) -> Iterable[bytes]:
    """Require digest authentication."""
    if "Authorization: Digest" in request:
        return snapshot_of(jpeg)(request, index)
    return [b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="x", nonce="1", qop="auth"\r\nContent-Length: 0\r\n\r\n']


def redirect(request: str, index: int) -> Iterable[bytes]:
    """Redirect to another path."""
    if "/other" in request:
        return snapshot_of(jpeg)(request, index)
    return [b"HTTP/1.1 302 Found\r\nLocation: /other.jpg\r\nContent-Length: 0\r\n\r\n"]


@pytest.mark.parametrize(
    "respond",
    [
        snapshot_of(lambda index: with_thumbnail(jpeg(index))),
        snapshot_of(jpeg, b"application/octet-stream"),
        lambda _, index: [jpeg(index)],  # no header
        lambda _, index: [b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 99\r\n\r\n", jpeg(index)],
        lambda _, index: [b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n", jpeg(index) + b"\xff" * 9],
        digest,
        redirect,
    ],
)
def test_any_response_with_one_image_is_a_frame(respond):
    with WildCamera(respond) as wild, SnapshotCamera(f"http://u:p@{wild.host}/snap.jpg", 20) as camera:
        for index in range(3):
            frame = camera.read()
            decoded = frame.decode_frame()
            assert decoded is not None
            assert (decoded.grey.shape, decoded.seq) == ((240, 320), index)
            assert 0 <= time.monotonic_ns() - frame.capture_time_ns < 1e9


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "cannot be opened (Server returned 404 Not Found); check the"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "stopped sending frames"),
        (HEADER, "sends a stream, not one image: remove video.snapshot_hz"),
        (b"", "stopped sending frames"),
        (b"nothing\r\n\r\n", "answered 'nothing', which is not HTTP"),
    ],
)
def test_a_response_without_an_image_raises_device_error(response: bytes, message: str):
    with (
        WildCamera(lambda *_: [response]) as wild,
        SnapshotCamera(f"http://{wild.host}/", 20) as camera,
        pytest.raises(DeviceError) as caught,
    ):
        camera.read()
    assert str(caught.value).startswith(f"camera http://{wild.host}/ {message}")


def test_a_snapshot_camera_that_is_absent_raises_device_error():
    with SnapshotCamera("http://127.0.0.1:9/", 5) as camera, pytest.raises(DeviceError, match="cannot be opened"):
        camera.read()
    with pytest.raises(DeviceError, match="is not open"):
        camera.read()


# An image that does not change


def test_a_camera_with_one_image_is_frozen_until_the_image_changes(tiny_bundle: Path, tmp_path: Path):
    moving = range(60, 110)  # 2.5 s
    with WildCamera(stream_of(lambda index: jpeg(index if index in moving else 0))) as wild:
        emotions, statuses, log = run_command(
            tiny_bundle, tmp_path, f"http://{wild.host}/", "--set", "video.frozen_s=1.5", seconds=9
        )
    states = [state for state, _ in itertools.groupby(event["data"]["devices"]["camera"] for event in emotions)]
    assert states in (["lost", "ok", "frozen", "ok", "frozen"], ["ok", "frozen", "ok", "frozen"])
    frozen = [event["data"] for event in emotions if event["data"]["devices"]["camera"] == "frozen"]
    assert {(event["state"], event["face"], len(event["faces"])) for event in frozen} == {("no_signal", None, 0)}
    assert any("face" in event["data"]["modalities"] for event in emotions)
    changes = [change["state"] for status in statuses for change in status["data"]["device_changes"]]
    assert changes[-3:] == ["frozen", "ok", "frozen"]
    name = f"moodring: camera http://{wild.host}/"
    assert sum(line.startswith(f"{name}: the image has not changed for 2 s; no face is used") for line in log) == 2
    assert f"{name}: the image changes again" in log
    assert len(wild.requests) == 1


def test_an_image_may_stay_the_same_if_the_limit_is_off(tiny_bundle: Path):
    with (
        WildCamera(stream_of(lambda _: jpeg(0))) as wild,
        monitored_run(tiny_bundle, NetworkCamera(f"http://{wild.host}/")) as run,
    ):
        run.wait_for(has_face, 20)
        time.sleep(2)
        run.wait_for(has_face, 1)


def test_noise_of_one_pixel_keeps_a_camera_alive(tiny_bundle: Path, tmp_path: Path):
    still = jpeg(0)

    def noisy(index: int) -> bytes:
        image = cv2.imdecode(np.frombuffer(still, np.uint8), cv2.IMREAD_GRAYSCALE)
        image[100, 100] += 8 * (index % 2)
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()

    with WildCamera(stream_of(noisy)) as wild:
        emotions, _, _ = run_command(tiny_bundle, tmp_path, f"http://{wild.host}/", "--set", "video.frozen_s=1", seconds=4)
    assert {event["data"]["devices"]["camera"] for event in emotions[4:]} == {"ok"}
