"""A microphone at an address: heard in real time, resampled, lost and named when it goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodring.capture.network import NetworkCamera, NetworkMicrophone
from moodring.errors import DeviceError
from moodring.run.sources import open_microphone
from tests.support.devices.sound_stream import SoundStream
from tests.support.signals import voice
from tests.support.watched import monitored_run

pytestmark = pytest.mark.live


def test_a_stream_of_another_rate_is_heard_at_ours():
    with SoundStream(voice(2.0, 44_100), 44_100) as stream, NetworkMicrophone(stream.url) as microphone:
        pieces, times = [], []
        while sum(piece.size for piece in pieces) < 16_000:
            samples, end_ns = microphone.read()
            pieces.append(samples)
            times.append(end_ns)
    sound = np.concatenate(pieces)
    assert sound.dtype == np.float32
    assert 0.1 < np.abs(sound).max() < 0.5
    assert times == sorted(times)


def test_a_voice_from_the_network_speaks_in_the_events_and_is_lost_with_its_stream(tiny_bundle: Path):
    stream = SoundStream(voice(2.0, 48_000), 48_000)
    with stream, monitored_run(tiny_bundle, microphone=open_microphone(stream.url)) as run:
        event = run.wait_for(lambda e: e.modalities == ("speech",), 20)
        assert event.devices == {"camera": "absent", "microphone": "ok"}
        stream.unplug()
        run.wait_for(lambda e: e.devices["microphone"] == "lost" and not e.modalities, 5)


def test_what_is_not_there_or_sends_no_sound_says_so():
    with pytest.raises(DeviceError, match=r"microphone http://127.0.0.1:9/ cannot be opened \(Connection refused\)"):
        NetworkMicrophone("http://127.0.0.1:9/").open()
    with pytest.raises(DeviceError, match="is not open"):
        NetworkMicrophone("rtsp://nowhere/").read()
    with (
        SoundStream(voice(1.0), 16_000) as stream,
        NetworkCamera(stream.url) as camera,
        pytest.raises(DeviceError, match="sends no picture"),
    ):
        camera.read()
