"""A live microphone made of software: heard, killed, frozen, found again. The sound server is real, and private to the test."""

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
from moodring.types import EmotionEvent
from tests.support.devices.microphone import SKIP_REASON, SoftwareMicrophone, is_available
from tests.support.devices.mjpeg import SoftwareCamera
from tests.support.signals import face_frame, voice
from tests.support.watched import monitored_run

pytestmark = [pytest.mark.live, pytest.mark.skipif(not is_available(), reason=SKIP_REASON)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: ALSA's library remembers where its configuration was."""
    return tmp_path_factory.mktemp("pulse")


@pytest.fixture
def plugged_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftwareMicrophone]:
    with SoftwareMicrophone(folder, voice(3.0)) as microphone:
        for key, value in microphone.environment.items():
            monkeypatch.setenv(key, value)
        yield microphone


def heard(event: EmotionEvent) -> bool:
    return event.devices["microphone"] == "ok" and event.modalities == ("speech",)


def lost(event: EmotionEvent) -> bool:
    return event.devices["microphone"] == "lost"


def test_the_default_microphone_is_found_and_gives_what_is_played_into_it(plugged_in: SoftwareMicrophone):
    assert default_microphone() == "default"
    with Microphone() as microphone:
        pieces, times = zip(*(microphone.read() for _ in range(60)), strict=True)
    sound = np.concatenate(pieces)
    assert sound.dtype == np.float32
    assert all(piece.size >= 16_000 * BLOCK_S for piece in pieces)
    assert sum(piece.size for piece in pieces[1:]) / 16_000 == pytest.approx((times[-1] - times[0]) / NS_PER_S, rel=0.02)
    assert 0.1 < np.abs(sound[-16_000:]).max() < 0.5
    assert list(times) == sorted(times)


def test_a_microphone_that_is_not_there_says_so(plugged_in: SoftwareMicrophone):
    with pytest.raises(DeviceError, match="no microphone is called 'no such thing'"):
        Microphone("no such thing").open()
    with pytest.raises(DeviceError, match="is not open"):
        Microphone().read()


def test_what_nobody_reads_in_time_is_counted(plugged_in: SoftwareMicrophone):
    with Microphone() as microphone:
        microphone.read()
        deadline = time.monotonic() + 10
        while not microphone.blocks_dropped:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert microphone.read()[0].size


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_a_microphone_that_goes_is_named_at_once_and_taken_again_when_it_is_back(
    plugged_in: SoftwareMicrophone, tiny_bundle: Path, fault: str
):
    with monitored_run(tiny_bundle, microphone=Microphone()) as run:
        run.wait_for(heard, 15)
        if fault == "killed":
            plugged_in.kill()
        else:
            plugged_in.freeze()
        event = run.wait_for(lost, 2)
        silent = run.wait_for(lambda e: lost(e) and not e.modalities, 3)  # what was said may count a little longer
        assert (silent.state, silent.label) == ("no_signal", None)
        assert event.speech is None or event.speech.age_ms < 2000
        if fault == "killed":
            plugged_in.start()
        else:
            plugged_in.unfreeze()
        run.wait_for(lambda e: e.devices["microphone"] == "ok", 5)
        run.wait_for(heard, 5)
        assert any("gives no more sound" in message for message in run.log_lines)
        assert any(message.endswith(": back") for message in run.log_lines)
        assert [thread.name for thread in threading.enumerate()].count("record default") == 1  # the one before has ended


def test_nobody_waits_for_a_sound_server_that_hangs(plugged_in: SoftwareMicrophone):
    plugged_in.freeze()
    microphone = Microphone()
    for _ in range(2):  # the second attempt finds the first one still waiting
        with pytest.raises(DeviceError, match="the sound server does not answer"):
            microphone.open()
    plugged_in.unfreeze()
    deadline = time.monotonic() + 10
    while True:
        try:
            microphone.open()
            break
        except DeviceError:
            assert time.monotonic() < deadline
    assert microphone.read()[0].size
    microphone.close()


def test_a_face_goes_on_speaking_while_the_microphone_is_gone(plugged_in: SoftwareMicrophone, tiny_bundle: Path):
    with SoftwareCamera(face_frame) as camera, monitored_run(tiny_bundle, open_camera(camera.url), Microphone()) as run:
        both = run.wait_for(lambda e: e.modalities == ("face", "speech"), 15)
        assert both.latency_ms is not None
        plugged_in.kill()
        event = run.wait_for(lambda e: lost(e) and e.modalities == ("face",), 4)
        assert (event.state, event.speech) == ("ok", None)
        plugged_in.start()
        run.wait_for(lambda e: e.modalities == ("face", "speech"), 8)
