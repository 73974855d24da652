"""A network microphone: it is read in real time, resampled, and reported as lost when its stream ends."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from moodring.capture.network import NetworkCamera, NetworkMicrophone
from moodring.errors import DeviceError
from moodring.run.sources import open_microphone
from moodring.types import SAMPLE_RATE_HZ
from tests.support.devices.sound_stream import SoundStream
from tests.support.media.tracks import Sound, Video, with_unknown_codec, write_tracks
from tests.support.signals import empty_frame, face_frame, voice
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


def read_seconds(microphone: NetworkMicrophone, seconds: float) -> np.ndarray:
    blocks: list[np.ndarray] = []
    while sum(block.size for block in blocks) < seconds * SAMPLE_RATE_HZ:
        blocks.append(microphone.read()[0])
    return np.concatenate(blocks)


def level_db(samples: np.ndarray) -> float:
    return 10 * np.log10(np.mean(samples.astype(np.float64) ** 2))


@pytest.mark.parametrize(
    "gains", [(1.0,) * 3, (1.0,) * 8, (1.0,) * 16, (1.0,) * 64, (1.0, -1.0), (1.0, 0.0), (1.0, *(0.0,) * 7)], ids=str
)
def test_a_stream_of_any_number_of_channels_keeps_the_level_of_the_voice(gains: tuple[float, ...]):
    sound = voice(1.0, 16_000)
    with SoundStream(sound, 16_000, gains) as stream, NetworkMicrophone(stream.url) as microphone:
        read_seconds(microphone, 0.5)
        assert level_db(read_seconds(microphone, 1.0)) == pytest.approx(level_db(sound), abs=1.0)


def test_more_channels_than_can_be_mixed_are_a_device_error():
    with (
        SoundStream(voice(1.0), SAMPLE_RATE_HZ, (1.0,) * 70) as stream,
        NetworkMicrophone(stream.url) as microphone,
        pytest.raises(DeviceError, match="stopped sending sound"),
    ):
        microphone.read()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Serve the temporary folder over HTTP; return the address."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_track_of_a_stream_is_chosen(served: str, tmp_path: Path):
    silence = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    write_tracks(tmp_path / "a.ts", Video([empty_frame(0)] * 50, "mpeg2video"), Sound(silence, "mp2"), Sound(voice(2.0), "mp2"))
    with NetworkMicrophone(f"{served}/a.ts") as default, NetworkMicrophone(f"{served}/a.ts", track=1) as chosen:
        assert level_db(read_seconds(default, 1.0) + 1e-9) < -80
        assert level_db(read_seconds(chosen, 1.0)) > -30
    with NetworkMicrophone(f"{served}/a.ts", track=2) as absent, pytest.raises(DeviceError, match="has no audio track 2"):
        absent.read()
    with NetworkCamera(f"{served}/a.ts", track=1) as absent, pytest.raises(DeviceError, match="has no video track 1"):
        absent.read()


def test_a_stream_of_an_unknown_codec_is_a_device_error(served: str, tmp_path: Path):
    path = write_tracks(tmp_path / "a.mkv", Video([empty_frame(0)] * 50, "ffv1"), Sound(voice(2.0), "flac"))
    with_unknown_codec(with_unknown_codec(path, b"V_FFV1"), b"A_FLAC")
    with (
        NetworkMicrophone(f"{served}/a.mkv") as microphone,
        pytest.raises(DeviceError, match="sends audio with an unknown codec"),
    ):
        microphone.read()
    with NetworkCamera(f"{served}/a.mkv") as camera, pytest.raises(DeviceError, match="sends video with an unknown codec"):
        camera.read()


def test_the_pixels_of_a_stream_are_made_square(served: str, tmp_path: Path):
    squeezed = [np.ascontiguousarray(face_frame(index, 320, 240)[:, ::2]) for index in range(50)]
    write_tracks(tmp_path / "a.ts", Video(squeezed, "mpeg4", aspect=Fraction(2, 1)))
    with NetworkCamera(f"{served}/a.ts") as camera:
        frame = camera.read().decode_frame()
    assert frame is not None
    assert frame.grey.shape == (240, 320)


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
