"""RTSP and UDP cameras with sound: both are read; a lost camera is reported and reopened."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodring.capture.network import NetworkCamera, NetworkMicrophone
from moodring.errors import DeviceError
from moodring.types import EmotionEvent
from tests.support.devices.transport_stream import RtspCamera, UdpCamera
from tests.support.watched import monitored_run

pytestmark = pytest.mark.live


def has_face(event: EmotionEvent) -> bool:
    return event.devices["camera"] == "ok" and "face" in event.modalities


@pytest.mark.parametrize("make_camera", [RtspCamera, UdpCamera])
def test_a_face_disappears_when_its_stream_ends_and_returns_when_it_reconnects(
    tiny_bundle: Path, make_camera: type[RtspCamera | UdpCamera]
):
    with make_camera() as camera, monitored_run(tiny_bundle, NetworkCamera(camera.url)) as run:
        assert run.wait_for(has_face, 20).frame_wh == (320, 240)
        camera.unplug()
        run.wait_for(lambda e: e.devices["camera"] == "lost" and e.state == "no_signal", 5)
        camera.plug_in()
        run.wait_for(has_face, 20)
        assert any(message.endswith(": reconnected") for message in run.log_lines)


def test_one_url_serves_as_camera_and_microphone(tiny_bundle: Path):
    with (
        RtspCamera() as camera,
        monitored_run(tiny_bundle, NetworkCamera(camera.url), NetworkMicrophone(camera.url)) as run,
    ):
        event = run.wait_for(lambda e: e.modalities == ("face", "speech"), 20)
    assert set(event.devices.values()) == {"ok"}


@pytest.mark.parametrize("url", ["rtsp://127.0.0.1:9/live", "srt://127.0.0.1:9", "nonsense://127.0.0.1"])
def test_a_url_that_cannot_be_opened_raises_device_error(url: str):
    with pytest.raises(DeviceError, match=rf"camera {url} cannot be opened"):
        NetworkCamera(url).open()
