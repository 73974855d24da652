"""No output of a run holds the password of an address: log, errors, events, status, metrics and page."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.devices.wild_camera import WildCamera, snapshot_of, stream_of
from tests.support.media.wild_jpegs import jpeg
from tests.support.servers.broker import free_port

pytestmark = pytest.mark.live
SECRET = "hunter2"  # noqa: S105  no password of anything
# Where it stands, with HOST for the host and port of a camera.
PLACES = [
    "http://admin:hunter2@HOST/video",
    "http://admin:hunter2%2Fhunter2@HOST/video",
    "http://HOST/videostream.cgi?user=admin&pwd=hunter2",
    "http://HOST/video?hunter2",
    "http://HOST/video#hunter2",
    "http://HOST/user=admin_password=hunter2_channel=1",
]
REFUSED = [
    *(place.replace("HOST", "127.0.0.1:9") for place in PLACES),
    "rtsp://admin:hunter2@127.0.0.1:9/live",
    "rtsp://127.0.0.1:9/user=admin_password=hunter2_channel=1_stream=0.sdp",
    "http://admin:hunter2/x@127.0.0.1:9/live",  # its port would be the password
    "http://admin:hunter2 x@127.0.0.1:9/live",
    "http://[hunter2@127.0.0.1:9/live",
    "https://127.0.0.1:9/token/hunter2/live.m3u8?hunter2",
    "srt://127.0.0.1:9?passphrase=hunter2",
    "nonsense://admin:hunter2@127.0.0.1:9/live",
    "rtsp:/admin:hunter2@127.0.0.1:9/live",
    "127.0.0.1:9/videostream.cgi?user=admin&pwd=hunter2",
    "admin:hunter2@127.0.0.1:9/live",
]


def moodring(*arguments: str, **variables: str) -> str:
    """Run the command; return all that it prints."""
    command = [sys.executable, "-m", "moodring.cli", *arguments]
    environment = os.environ | variables
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("address", REFUSED)
def test_the_messages_about_a_camera_that_cannot_be_opened_hold_no_secret(tiny_bundle: Path, address: str):
    printed = moodring("run", "--set", f"bundle={tiny_bundle}", "--video", address, "--audio", address, "--seconds", "1")
    assert "127.0.0.1" in printed or "***" in printed
    assert SECRET not in printed
    printed = moodring("run", address, "--seconds", "1", "--events", "none")
    assert printed
    assert SECRET not in printed


@pytest.mark.parametrize("address", ["rtsp://administrator:a-very-long-password-of-more-than-sixty-characters-hunter2@10.0.0.7/live",
                                     "rtsp://10.0.0.7/live?password=hunter2"])  # fmt: skip
def test_the_errors_of_the_command_line_and_the_configuration_hold_no_secret(tmp_path: Path, address: str):
    config = tmp_path / "my.yaml"
    config.write_text(
        f"video: {address}\naudio: {{source: ['{address}']}}\nmqtt: {{url: '{address}', port: '{address}'}}\n"
        f"'{address}': 1\nface: {{rate_hz: '{address}'}}\nevents: {{fsync: '{address}', path: \"{address}\\x01\"}}\n"
    )
    outputs = [
        moodring("config", "check", str(config)),
        moodring("run", "--config", str(config)),
        moodring("run", "--vidio", address),
        moodring("run", address, address),
        moodring("run", "--pace", address),
        moodring("run", "--seconds", address),
        moodring("run", "--set", f"fusion.rate_hz={address}"),
        moodring("run", "--set", address),
        moodring("run", "--set", f"mqtt.url={address}", "--video", "none", "--audio", "none"),
        moodring("run", "--video", "none", "--audio", "none", MOODRING_FUSION__RATE_HZ=address),
        moodring("run", "--config", address),
        moodring("run", "--events", f"/{address}", "--seconds", "1"),
        moodring(address),
    ]
    for printed in outputs:
        assert printed
        assert SECRET not in printed
        assert "a-very-long-password" not in printed


@pytest.mark.parametrize("place", PLACES)
def test_a_running_camera_publishes_no_secret(tiny_bundle: Path, tmp_path: Path, place: str):
    pytest.importorskip("prometheus_client", reason="no prometheus_client: pip install 'moodring[metrics]'")
    metrics, page, events = free_port(), free_port(), tmp_path / "events.jsonl"
    addresses = [f"http://127.0.0.1:{metrics}/{path}" for path in ("metrics", "healthz", "readyz")]
    addresses += [f"http://127.0.0.1:{page}/{path}" for path in ("", "api/v1/state", "openapi.json")]

    def respond(request: str, index: int) -> Iterable[bytes]:
        stream = stream_of(lambda count: jpeg(count % 60))(request, index)
        return stream if index else itertools.islice(stream, 30)  # the first connection ends

    with WildCamera(respond) as wild:
        config = tmp_path / "my.yaml"
        config.write_text(
            f"bundle: {tiny_bundle}\nvideo: {{source: '{place.replace('HOST', wild.host)}'}}\naudio: {{source: none}}\n"
            f"events: {{path: {events}, status: true}}\nmetrics: {{enabled: true, port: {metrics}}}\n"
            f"page: {{enabled: true, port: {page}}}\n"
        )
        command = [sys.executable, "-m", "moodring.cli", "run", "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: len(wild.requests) == 2 and '"moodring.status.v1"' in events.read_text())
            process.send_signal(signal.SIGHUP)
            published = [urllib.request.urlopen(address).read().decode() for address in addresses]  # noqa: S310  our own
            process.send_signal(signal.SIGINT)
            log = process.communicate(timeout=20)[1]
    assert "reconnected" in log
    for text in (log, events.read_text(), *published):
        assert text
        assert SECRET not in text


def test_a_snapshot_camera_publishes_no_secret(tiny_bundle: Path):
    with WildCamera(snapshot_of(jpeg)) as wild:
        address = f"http://{wild.host}/snap.jpg?user=admin&pwd=hunter2"
        options = ["run", "--set", f"bundle={tiny_bundle}", "--video", address, "--audio", "none", "--seconds", "1"]
        for printed in (moodring(*options), moodring(*options, "--set", "video.snapshot_hz=5")):
            assert "snap.jpg?***" in printed
            assert SECRET not in printed


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(FileNotFoundError):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)
