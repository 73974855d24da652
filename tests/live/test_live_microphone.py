"""A simulated live microphone: it is read, killed, frozen and reopened. The sound server is real and private to the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moodring.capture.camera import open_camera
from moodring.capture.microphone import BLOCK_S, Microphone, default_microphone
from moodring.clock import NS_PER_S
from moodring.errors import DeviceError
from moodring.types import SAMPLE_RATE_HZ, EmotionEvent
from tests.support.devices.microphone import SKIP_REASON, SoftwareMicrophone, is_available
from tests.support.devices.mjpeg import SoftwareCamera
from tests.support.signals import face_frame, voice
from tests.support.watched import monitored_run

pytestmark = [pytest.mark.live, pytest.mark.skipif(not is_available(), reason=SKIP_REASON)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all tests: the ALSA library remembers the path of its configuration."""
    return tmp_path_factory.mktemp("pulse")


@pytest.fixture
def microphone_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftwareMicrophone]:
    with SoftwareMicrophone(folder, voice(3.0)) as microphone:
        for key, value in microphone.environment.items():
            monkeypatch.setenv(key, value)
        yield microphone


def has_speech(event: EmotionEvent) -> bool:
    return event.devices["microphone"] == "ok" and event.modalities == ("speech",)


def microphone_lost(event: EmotionEvent) -> bool:
    return event.devices["microphone"] == "lost"


def test_the_default_microphone_is_found_and_delivers_the_played_audio(microphone_device: SoftwareMicrophone):
    assert default_microphone() == "default"
    with Microphone() as microphone:
        blocks, times = zip(*(microphone.read() for _ in range(60)), strict=True)
    sound = np.concatenate(blocks)
    assert sound.dtype == np.float32
    assert all(block.size >= SAMPLE_RATE_HZ * BLOCK_S for block in blocks)
    assert sum(block.size for block in blocks[1:]) / SAMPLE_RATE_HZ == pytest.approx(
        (times[-1] - times[0]) / NS_PER_S, rel=0.02
    )
    assert 0.1 < np.abs(sound[-SAMPLE_RATE_HZ:]).max() < 0.5
    assert list(times) == sorted(times)


def test_an_absent_microphone_raises_device_error(microphone_device: SoftwareMicrophone):
    with pytest.raises(DeviceError, match="microphone no such thing does not exist; available microphones: "):
        Microphone("no such thing").open()
    with pytest.raises(DeviceError, match="is not open"):
        Microphone().read()


def test_blocks_that_are_not_read_in_time_are_counted(microphone_device: SoftwareMicrophone):
    with Microphone() as microphone:
        microphone.read()
        deadline = time.monotonic() + 10
        while not microphone.blocks_dropped:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert microphone.read()[0].size


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_a_lost_microphone_is_reported_within_two_seconds_and_reopened(
    microphone_device: SoftwareMicrophone, tiny_bundle: Path, fault: str
):
    with monitored_run(tiny_bundle, microphone=Microphone()) as run:
        run.wait_for(has_speech, 15)
        if fault == "killed":
            microphone_device.kill()
        else:
            microphone_device.freeze()
        event = run.wait_for(microphone_lost, 2)
        # The speech output stays valid up to its staleness limit.
        silent = run.wait_for(lambda e: microphone_lost(e) and not e.modalities, 3)
        assert (silent.state, silent.label) == ("no_signal", None)
        assert event.speech is None or event.speech.age_ms < 2000
        if fault == "killed":
            microphone_device.start()
        else:
            microphone_device.unfreeze()
        run.wait_for(lambda e: e.devices["microphone"] == "ok", 5)
        run.wait_for(has_speech, 5)
        assert any("stopped sending sound" in message for message in run.log_lines)
        assert any(message.endswith(": reconnected") for message in run.log_lines)
        assert [thread.name for thread in threading.enumerate()].count("record default") == 1  # the previous one has ended


def test_open_does_not_block_while_the_sound_server_hangs(microphone_device: SoftwareMicrophone):
    microphone_device.freeze()
    microphone = Microphone()
    for _ in range(2):  # at the second attempt, the thread of the first one still waits
        with pytest.raises(DeviceError, match="the sound server does not respond"):
            microphone.open()
    microphone_device.unfreeze()
    deadline = time.monotonic() + 10
    while True:
        try:
            microphone.open()
            break
        except DeviceError:
            assert time.monotonic() < deadline
    assert microphone.read()[0].size
    microphone.close()


def test_the_face_is_still_published_while_the_microphone_is_lost(microphone_device: SoftwareMicrophone, tiny_bundle: Path):
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url), Microphone()) as run:
        both = run.wait_for(lambda e: e.modalities == ("face", "speech"), 15)
        assert both.latency_ms is not None
        microphone_device.kill()
        event = run.wait_for(lambda e: microphone_lost(e) and e.modalities == ("face",), 4)
        assert (event.state, event.speech) == ("ok", None)
        microphone_device.start()
        run.wait_for(lambda e: e.modalities == ("face", "speech"), 8)
