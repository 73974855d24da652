"""Media files: recordings of many formats are read with their time stamps; unreadable ones raise an error with the reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from moodring.address import check_path
from moodring.capture.media import AudioFile, VideoFile, probe
from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.errors import MediaError, UsageError
from moodring.types import SAMPLE_RATE_HZ
from tests.support.recordings import encode_sound, write_empty_wav, write_recording, write_talking_face
from tests.support.signals import empty_frame, face_frame, noise, voice


def read_sound(path: Path) -> tuple[np.ndarray, list[int]]:
    with AudioFile(str(path)) as audio:
        blocks = list(audio)
        assert audio.counters.samples == sum(block.samples.size for block in blocks)
    for block in blocks:
        assert block.samples.dtype == np.float32
        assert block.rate_hz == SAMPLE_RATE_HZ
    return np.concatenate([block.samples for block in blocks]), [block.capture_time_ns for block in blocks]


def read_times_ms(path: Path) -> list[float]:
    with VideoFile(str(path)) as video:
        frames = list(video)
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert all(frame.grey.dtype == np.uint8 and frame.grey.ndim == 2 for frame in frames)
    return [frame.capture_time_ns / NS_PER_MS for frame in frames]


def video_frames(count: int, width: int = 160, height: int = 120) -> list[np.ndarray]:
    return [empty_frame(index, width, height) for index in range(count)]


def tone(seconds: float, rate_hz: int, hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def strongest_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * SAMPLE_RATE_HZ / samples.size)


# Probing


@pytest.mark.parametrize(("video", "audio"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_probe_reports_which_streams_a_recording_contains(tmp_path: Path, video: bool, audio: bool, suffix: str):
    path = write_recording(
        tmp_path / f"clip{suffix}",
        video_frames=video_frames(10) if video else None,
        sound=tone(0.5, SAMPLE_RATE_HZ) if audio else None,
    )
    info = probe(str(path))
    assert (info.has_video, info.has_audio) == (video, audio)
    if not video:
        with pytest.raises(MediaError, match="contains no video"), VideoFile(str(path)) as reader:
            list(reader)
    if not audio:
        with pytest.raises(MediaError, match="contains no audio"), AudioFile(str(path)) as reader:
            list(reader)


# Audio


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_audio_of_any_sample_rate_is_resampled_with_the_same_length_and_pitch(tmp_path: Path, rate_hz: int):
    samples, times = read_sound(write_recording(tmp_path / "tone.wav", sound=tone(1.0, rate_hz), rate_hz=rate_hz))
    assert samples.size == pytest.approx(SAMPLE_RATE_HZ, abs=20)
    assert strongest_hz(samples) == pytest.approx(440, abs=2)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.02)
    assert times[0] == 0


def level_db(samples: np.ndarray) -> float:
    middle = samples[samples.size // 4 : -samples.size // 4].astype(np.float64)
    return 10 * np.log10(max(1e-20, float(np.mean(middle**2))))


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 44_100, 48_000, 96_000])
def test_resampling_preserves_the_level_of_a_tone(tmp_path: Path, rate_hz: int):
    path = write_recording(tmp_path / "tone.wav", sound=tone(1.0, rate_hz, 1000.0), rate_hz=rate_hz)
    samples, _ = read_sound(path)
    assert strongest_hz(samples) == pytest.approx(1000, abs=1)
    assert level_db(samples) == pytest.approx(level_db(tone(1.0, SAMPLE_RATE_HZ, 1000.0)), abs=0.5)


@pytest.mark.parametrize(("rate_hz", "hz"), [(22_050, 9000.0), (44_100, 9000.0), (48_000, 15_000.0), (96_000, 33_000.0)])
def test_resampling_removes_frequencies_above_8_khz_without_aliasing(tmp_path: Path, rate_hz: int, hz: float):
    path = write_recording(tmp_path / "tone.wav", sound=tone(1.0, rate_hz, hz), rate_hz=rate_hz)
    samples, _ = read_sound(path)
    assert level_db(samples) < level_db(tone(1.0, SAMPLE_RATE_HZ)) - 40


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100, 48_000])
def test_audio_does_not_depend_on_the_frame_size_of_the_container(tmp_path: Path, rate_hz: int):
    sound = voice(1.0, rate_hz)
    expected, _ = read_sound(write_recording(tmp_path / "4096.mkv", sound=sound, rate_hz=rate_hz))
    for frame_samples in (100, 441, 1024):
        path = write_recording(
            tmp_path / f"{frame_samples}.mkv", sound=sound, rate_hz=rate_hz, sound_frame_samples=frame_samples
        )
        np.testing.assert_array_equal(read_sound(path)[0], expected)


@pytest.mark.parametrize("layout", ["mono", "stereo", "3.0", "quad", "5.1"])
def test_any_channel_layout_is_mixed_to_mono(tmp_path: Path, layout: str):
    path = write_recording(tmp_path / "tone.wav", sound=tone(1.0, 48_000), rate_hz=48_000, layout=layout)
    samples, _ = read_sound(path)
    assert samples.size == pytest.approx(SAMPLE_RATE_HZ, abs=20)
    assert strongest_hz(samples) == pytest.approx(440, abs=2)
    assert 0.1 < np.abs(samples).max() <= 1.0


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_wav_sample_format_gives_the_same_samples(tmp_path: Path, codec: str):
    samples, _ = read_sound(write_recording(tmp_path / "tone.wav", sound=tone(0.5, SAMPLE_RATE_HZ), audio_codec=codec))
    np.testing.assert_allclose(samples, tone(0.5, SAMPLE_RATE_HZ), atol=0.01)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".mp4", ".mkv"])
def test_block_times_follow_the_sample_count(tmp_path: Path, suffix: str):
    _, times = read_sound(write_recording(tmp_path / f"clip{suffix}", sound=voice(1.0)))
    with AudioFile(str(tmp_path / f"clip{suffix}")) as audio:
        expected, position = [], 0
        for block in audio:
            expected.append(times[0] + position * NS_PER_S // SAMPLE_RATE_HZ)
            position += block.samples.size
    assert times == expected


def test_nan_samples_become_zero_and_large_samples_are_clipped(tmp_path: Path):
    header = write_recording(tmp_path / "clip.wav", sound=np.zeros(1600, np.float32), audio_codec="pcm_f32le").read_bytes()
    values = np.zeros(1600, np.float32)
    values[100], values[200], values[300], values[400] = np.nan, np.inf, -np.inf, 7.0
    (tmp_path / "bad.wav").write_bytes(header[: len(header) - 6400] + values.tobytes())
    samples, _ = read_sound(tmp_path / "bad.wav")
    assert samples[[100, 200, 300, 400]].tolist() == [0.0, 1.0, -1.0, 1.0]
    assert np.isfinite(samples).all()


def test_a_silent_recording_gives_zeros(tmp_path: Path):
    samples, _ = read_sound(write_recording(tmp_path / "silent.wav", sound=np.zeros(SAMPLE_RATE_HZ, np.float32)))
    assert samples.size == SAMPLE_RATE_HZ
    assert not samples.any()


def test_a_wav_without_samples_raises_media_error(tmp_path: Path):
    path = write_empty_wav(tmp_path / "empty.wav")
    with (
        pytest.raises(MediaError, match=r"empty\.wav contains no audio: its audio stream is empty"),
        AudioFile(str(path)) as audio,
    ):
        list(audio)


def test_audio_continues_after_a_change_of_sample_rate(tmp_path: Path):
    first = write_recording(tmp_path / "a.mp3", sound=tone(1.0, 48_000), rate_hz=48_000, layout="stereo")
    second = write_recording(tmp_path / "b.mp3", sound=tone(1.0, 24_000, 880.0), rate_hz=24_000)
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    samples, _ = read_sound(joined)
    assert samples.size == pytest.approx(2 * SAMPLE_RATE_HZ, rel=0.1)
    assert strongest_hz(samples[2000:14_000]) == pytest.approx(440, abs=5)
    assert strongest_hz(samples[-12_000:-2000]) == pytest.approx(880, abs=5)


# Video


def test_frames_have_the_presentation_times_of_the_recording(tmp_path: Path):
    path = write_recording(tmp_path / "clip.mp4", video_frames=video_frames(25))
    np.testing.assert_allclose(read_times_ms(path), 40.0 * np.arange(25), atol=1)


def test_a_variable_frame_rate_is_preserved(tmp_path: Path):
    times_ms = [0, 10, 50, 55, 300, 301, 900, 1000, 2500, 2533]
    path = write_recording(tmp_path / "clip.mkv", video_frames=video_frames(len(times_ms)), times_ms=times_ms)
    np.testing.assert_allclose(read_times_ms(path), times_ms, atol=1)


def test_a_slide_show_is_not_reported_as_truncated(tmp_path: Path):
    times_ms = [0, 3000, 6000, 9000]
    path = write_recording(tmp_path / "slides.mp4", video_frames=video_frames(4), times_ms=times_ms, last_frame_ms=3000)
    np.testing.assert_allclose(read_times_ms(path), times_ms, atol=1)


@pytest.mark.parametrize("size", [(161, 121), (17, 33), (1, 1), (320, 2)])
def test_frames_of_unusual_sizes_are_read_exactly(tmp_path: Path, size: tuple[int, int]):
    width, height = size
    path = write_recording(tmp_path / "clip.mkv", video_frames=video_frames(5, width, height), video_codec="ffv1")
    with VideoFile(str(path)) as video:
        frames = list(video)
    assert len(frames) == 5
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.grey, empty_frame(index, width, height))


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_frames_are_rotated_as_the_metadata_states(tmp_path: Path, rotation_deg: int):
    path = write_recording(tmp_path / "clip.mp4", video_frames=[face_frame(0)] * 3, rotation_deg=rotation_deg)
    expected = cv2.cvtColor(cv2.VideoCapture(str(path)).read()[1], cv2.COLOR_BGR2GRAY)  # OpenCV applies the rotation
    with VideoFile(str(path)) as video:
        frame = next(iter(video))
    assert frame.grey.shape == expected.shape == ((320, 240) if rotation_deg in (90, 270) else (240, 320))
    luma = 16 + expected * (219 / 255)  # the range of most video
    assert np.abs(frame.grey - luma).mean() < 3


def test_a_frame_out_of_order_is_dropped_and_counted(tmp_path: Path):
    path = write_recording(tmp_path / "clip.mkv", video_frames=video_frames(10))
    data = path.read_bytes()
    in_order, earlier = (b"\x81" + time_ms.to_bytes(2, "big") for time_ms in (200, 50))  # track and time of a block
    assert data.count(in_order) == 1
    path.write_bytes(data.replace(in_order, earlier))
    with VideoFile(str(path)) as video:
        assert [frame.capture_time_ns // NS_PER_MS for frame in video] == [0, 40, 80, 120, 160, 240, 280, 320, 360]
        assert (video.counters.out_of_order, video.counters.time_stamp_jumps) == (1, 0)


# Video and audio


@pytest.mark.parametrize("offset_ms", [0, 500, 1500])
def test_audio_that_starts_after_the_video_keeps_its_offset(tmp_path: Path, offset_ms: int):
    path = write_recording(
        tmp_path / "clip.mkv", video_frames=video_frames(75), sound=tone(1.0, SAMPLE_RATE_HZ), sound_start_ms=offset_ms
    )
    assert read_times_ms(path)[0] == 0
    _, times = read_sound(path)
    assert times[0] / NS_PER_MS == pytest.approx(offset_ms, abs=25)


def test_audio_with_a_gap_continues_at_the_time_stamp_after_the_gap(tmp_path: Path):
    path = tmp_path / "clip.mkv"
    sound = tone(0.5, SAMPLE_RATE_HZ)
    _write_with_gap(path, sound, gap_ms=700)
    samples, times = read_sound(path)
    assert samples.size == 2 * sound.size
    steps = np.diff(times) / NS_PER_MS
    assert (steps > 700).sum() == 1


def test_audio_whose_time_stamps_are_all_the_same_goes_on(tmp_path: Path):
    path, sound = tmp_path / "clip.mkv", tone(3.0, SAMPLE_RATE_HZ)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE_HZ, layout="mono")
        for packet in encode_sound(stream, sound, SAMPLE_RATE_HZ, "mono", 0):
            packet.pts = packet.dts = 0
            container.mux(packet)
    samples, times = read_sound(path)
    assert samples.size == sound.size
    assert times[-1] / NS_PER_MS > 2000


def _write_with_gap(path: Path, sound: np.ndarray, gap_ms: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE_HZ, layout="mono")
        after_ms = 1000 * sound.size // SAMPLE_RATE_HZ + gap_ms
        packets = encode_sound(stream, sound, SAMPLE_RATE_HZ, "mono", 0, flush=False)
        packets += encode_sound(stream, sound, SAMPLE_RATE_HZ, "mono", after_ms)
        for packet in packets:
            container.mux(packet)


# Errors


def test_check_path_raises_usage_error_for_a_missing_file_and_a_directory(tmp_path: Path):
    with pytest.raises(UsageError, match="no such file"):
        check_path(str(tmp_path / "missing.mp4"))
    with pytest.raises(UsageError, match="is a directory"):
        check_path(str(tmp_path))
    check_path("rtsp://somewhere/else")  # a URL is checked when it is opened


@pytest.mark.parametrize(
    "content", [b"", b"just some text\n" * 100, b"\x00" * 4096, b"RIFF", b"\x00\x00\x00\x18ftypmp42"], ids=range(5)
)
@pytest.mark.parametrize("suffix", [".mp4", ".wav", ".mpg"])
def test_a_file_that_is_not_a_recording_raises_media_error_with_its_name(tmp_path: Path, content: bytes, suffix: str):
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=rf"odd\{suffix}"):
        probe(str(path)) and list(VideoFile(str(path)))


def test_a_recording_without_its_index_is_rejected(tmp_path: Path):
    whole = write_talking_face(tmp_path / "whole.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="check that it is a complete media file"):
        probe(str(cut))


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
def test_a_truncated_recording_is_read_to_its_end_and_then_raises_media_error(tmp_path: Path, keep: float):
    whole = write_talking_face(tmp_path / "whole.mp4", seconds=4.0, options={"movflags": "faststart"}).read_bytes()
    assert whole.index(b"moov") < whole.index(b"mdat")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: round(keep * len(whole))])
    assert probe(str(cut)).has_video
    for reader in (VideoFile(str(cut)), AudioFile(str(cut))):
        read: list[object] = []
        with pytest.raises(MediaError, match=r"ends after .* of 4\.\d s"), reader:
            read.extend(datum.capture_time_ns for datum in reader)
        assert len(read) > 5


def test_a_complete_recording_is_not_reported_as_truncated(tmp_path: Path):
    path = write_talking_face(tmp_path / "whole.mp4", options={"movflags": "faststart"})
    assert len(read_times_ms(path)) == 75
    assert read_sound(path)[0].size == pytest.approx(3 * SAMPLE_RATE_HZ, abs=3000)


def test_damaged_packets_are_skipped(tmp_path: Path):
    data = bytearray(write_recording(tmp_path / "whole.mkv", video_frames=[face_frame(i) for i in range(75)]).read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(len(data) // 3, len(data) // 2, 60):
        data[position] ^= 0xFF
    path = tmp_path / "damaged.mkv"
    path.write_bytes(bytes(data))
    assert len(read_times_ms(path)) > 30


def test_an_unreachable_server_raises_media_error_with_its_url():
    with pytest.raises(MediaError, match=r"http://127\.0\.0\.1:9/x cannot be opened .* check the address"):
        probe("http://127.0.0.1:9/x")


def test_reading_can_stop_early_and_close_can_be_called_again(tmp_path: Path):
    path = write_talking_face(tmp_path / "clip.mp4")
    with VideoFile(str(path)) as video:
        assert next(iter(video)).seq == 0
    video.close()
    video.close()


def test_the_decoders_print_nothing(tmp_path: Path):
    path = tmp_path / "text.mp4"
    path.write_text("not a video\n" * 50)
    code = f"""
from moodring.capture.media import probe
try:
    probe({str(path)!r})
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("MediaError\n", "")


# Real recordings


@pytest.mark.data
def test_grid_clips_keep_video_and_audio_aligned(data_path):
    clips = sorted(data_path("av_clips").glob("grid_*.mpg"))
    assert len(clips) == 11
    for clip in clips:
        times = read_times_ms(clip)
        samples, sound_times = read_sound(clip)
        assert 70 <= len(times) <= 76, clip.name
        np.testing.assert_allclose(np.diff(times), 40, atol=1)
        assert samples.size / SAMPLE_RATE_HZ == pytest.approx(2.98, abs=0.1), clip.name
        assert abs(sound_times[0] / NS_PER_MS - times[0]) < 200, clip.name


@pytest.mark.data
def test_real_clips_are_read(data_path):
    clips = [*sorted(data_path("video").glob("*.m*")), *sorted(data_path("crema_d_sample/clips").iterdir())]
    assert len(clips) >= 12
    for clip in clips:
        info = probe(str(clip))
        assert info.has_video, clip.name
        with VideoFile(str(clip)) as video:
            times = [frame.capture_time_ns for frame, _ in zip(video, range(20), strict=False)]
        assert len(times) == 20, clip.name
        assert times == sorted(set(times)), clip.name


def test_flac_preserves_the_samples(tmp_path: Path):
    sound = np.round(noise(0.5) * 32767) / 32768
    samples, _ = read_sound(write_recording(tmp_path / "noise.flac", sound=sound.astype(np.float32)))
    np.testing.assert_allclose(samples, sound, atol=2 / 32768)
