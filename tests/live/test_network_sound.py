"""A network microphone: it is read in real time, resampled, and reported as lost when its stream ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodring.capture.network import NetworkCamera, NetworkMicrophone
from moodring.errors import DeviceError
from moodring.run.sources import open_microphone
from moodring.types import SAMPLE_RATE_HZ
from tests.support.devices.sound_stream import SoundStream
from tests.support.signals import voice
from tests.support.watched import monitored_run

pytestmark = pytest.mark.live


def test_a_stream_of_another_sample_rate_is_resampled():
    with SoundStream(voice(2.0, 44_100), 44_100) as stream, NetworkMicrophone(stream.url) as microphone:
        blocks, times = [], []
        while sum(block.size for block in blocks) < SAMPLE_RATE_HZ:
            samples, end_ns = microphone.read()
            blocks.append(samples)
            times.append(end_ns)
    sound = np.concatenate(blocks)
    assert sound.dtype == np.float32
    assert 0.1 < np.abs(sound).max() < 0.5
    assert times == sorted(times)


def test_speech_of_a_network_stream_is_published_until_the_stream_ends(tiny_bundle: Path):
    stream = SoundStream(voice(2.0, 48_000), 48_000)
    with stream, monitored_run(tiny_bundle, microphone=open_microphone(stream.url)) as run:
        event = run.wait_for(lambda e: e.modalities == ("speech",), 20)
        assert event.devices == {"camera": "absent", "microphone": "ok"}
        stream.unplug()
        run.wait_for(lambda e: e.devices["microphone"] == "lost" and not e.modalities, 5)


def test_an_unreachable_microphone_and_a_stream_without_video_raise_device_error():
    with pytest.raises(DeviceError, match=r"microphone http://127.0.0.1:9/ cannot be opened \(Connection refused\)"):
        NetworkMicrophone("http://127.0.0.1:9/").open()
    with pytest.raises(DeviceError, match="is not open"):
        NetworkMicrophone("rtsp://nowhere/").read()
    with (
        SoundStream(voice(1.0), SAMPLE_RATE_HZ) as stream,
        NetworkCamera(stream.url) as camera,
        pytest.raises(DeviceError, match="sends no video"),
    ):
        camera.read()
