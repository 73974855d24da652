"""Cameras that speak RTSP or send UDP, with sound: seen and heard, lost and named when they go, taken again."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodring.capture.network import NetworkCamera, NetworkMicrophone
from moodring.errors import DeviceError
from moodring.types import EmotionEvent
from tests.support.devices.transport_stream import RtspCamera, UdpCamera
from tests.support.watched import monitored_run

pytestmark = pytest.mark.live


def seen(event: EmotionEvent) -> bool:
    return event.devices["camera"] == "ok" and "face" in event.modalities


@pytest.mark.parametrize("make", [RtspCamera, UdpCamera])
def test_a_face_is_seen_lost_with_its_stream_and_seen_again(tiny_bundle: Path, make: type[RtspCamera | UdpCamera]):
    with make() as camera, monitored_run(tiny_bundle, NetworkCamera(camera.url)) as run:
        assert run.wait_for(seen, 20).frame_wh == (320, 240)
        camera.unplug()
        run.wait_for(lambda e: e.devices["camera"] == "lost" and e.state == "no_signal", 5)
        camera.plug_in()
        run.wait_for(seen, 20)
        assert any(message.endswith(": back") for message in run.log_lines)


def test_one_address_gives_picture_and_sound(tiny_bundle: Path):
    with (
        RtspCamera() as camera,
        monitored_run(tiny_bundle, NetworkCamera(camera.url), NetworkMicrophone(camera.url)) as run,
    ):
        event = run.wait_for(lambda e: e.modalities == ("face", "speech"), 20)
    assert set(event.devices.values()) == {"ok"}


@pytest.mark.parametrize("url", ["rtsp://127.0.0.1:9/live", "srt://127.0.0.1:9", "nonsense://127.0.0.1"])
def test_what_cannot_be_opened_is_named_with_the_reason(url: str):
    with pytest.raises(DeviceError, match=rf"camera {url} cannot be opened"):
        NetworkCamera(url).open()
