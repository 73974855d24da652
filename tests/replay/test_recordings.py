"""`moodring run` on recordings with faults: what can be decoded is used to the end, and the summary names what was left out."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from moodring.capture.media import VideoFile
from moodring.cli import main
from moodring.types import U8
from tests.support.events import check_lines
from tests.support.media.tracks import Sound, Video, to_raw_bytes, with_unknown_codec, write_tracks
from tests.support.recordings import write_empty_wav, write_recording, write_talking_face
from tests.support.signals import empty_frame, face_frame, voice

SECONDS = 2.0


@dataclass(frozen=True)
class Done:
    code: int
    events: list[dict[str, Any]]
    messages: list[str]

    def uses(self, modality: str) -> int:
        """Return the number of events that use a modality."""
        return sum(modality in event["data"]["modalities"] for event in self.events)

    def message(self, *parts: str) -> str:
        """Return the one message that contains all parts."""
        (found,) = [message for message in self.messages if all(part in message for part in parts)]
        return found


@pytest.fixture
def run(tiny_bundle: Path, tmp_path: Path) -> Callable[..., Done]:
    """Return a function that runs `moodring run` at full speed in this process."""
    config = tmp_path / "config.yaml"
    config.write_text(f"bundle: {tiny_bundle}\n")

    def run_it(*arguments: object) -> Done:
        out, err = io.StringIO(), io.StringIO()
        events = tmp_path / "events.jsonl"
        events.unlink(missing_ok=True)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["run", *map(str, arguments), "--config", str(config), "--pace", "max", "--events", str(events)])
        lines = check_lines(events.read_text()) if events.exists() and events.stat().st_size else []
        return Done(code, lines, err.getvalue().splitlines())

    return run_it


def faces(seconds: float = SECONDS, width: int = 320, height: int = 240) -> list[np.ndarray]:
    return [face_frame(index, width, height) for index in range(round(25 * seconds))]


def nothing(seconds: float = SECONDS) -> list[np.ndarray]:
    return [empty_frame(index) for index in range(round(25 * seconds))]


# Channels


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 8, 9, 16, 24, 32, 63, 64])
def test_a_voice_in_any_number_of_channels_is_processed_without_a_crash(run, tmp_path: Path, count: int):
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(count)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(np.repeat((voice(SECONDS, 48_000) * 32_767).astype("<i2"), count).tobytes())
    done = run(path)
    assert done.code == 0
    assert done.uses("speech") >= 3


def test_more_channels_than_can_be_mixed_end_with_a_message(run, tmp_path: Path):
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(100)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(100 * 2 * 1600))
    done = run(path)
    assert (done.code, done.events) == (1, [])
    done.message("voice.wav", "100 channels", "cannot be converted")


@pytest.mark.parametrize("rate_hz", [1, 2**31 - 1])
def test_a_damaged_sample_rate_ends_with_a_message(run, tmp_path: Path, rate_hz: int):
    path = tmp_path / "voice.wav"
    write_recording(path, sound=voice(1.0))
    data = bytearray(path.read_bytes())
    data[24:28] = rate_hz.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    done = run(path)
    assert (done.code, done.events) == (1, [])
    done.message("voice.wav", "left out" if rate_hz == 1 else "Hz")


@pytest.mark.parametrize(("codec", "suffix"), [("aac", "mp4"), ("flac", "mkv"), ("libopus", "mkv"), ("pcm_f32le", "mkv")])
def test_a_voice_in_the_centre_of_7_1_gives_the_events_of_mono(run, tmp_path: Path, codec: str, suffix: str):
    sound = voice(SECONDS, 48_000)
    path = tmp_path / f"centre.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="7.1")
        planes = np.zeros((8, sound.size), np.float32)
        planes[2] = sound
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes.T.reshape(1, -1)), format="flt", layout="7.1")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        resampler = av.AudioResampler(stream.format, "7.1", 48_000, stream.frame_size or 1024)
        for ready in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    mono = run(write_recording(tmp_path / "mono.wav", sound=sound, rate_hz=48_000))
    assert abs(run(path).uses("speech") - mono.uses("speech")) <= 1
    assert mono.uses("speech") >= 3


@pytest.mark.parametrize("gain", [-1.0, 0.0])
def test_a_stereo_voice_with_an_inverted_or_dead_channel_is_recognised(run, tmp_path: Path, gain: float):
    sound = (voice(3.0) * 32_767).astype("<i2")
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.stack([sound, (gain * sound).astype("<i2")], axis=1).tobytes())
    assert run(path).uses("speech") >= 6


# Time


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", "h264"), ("libx265", "hevc"), ("mpeg2video", "m2v"), ("mjpeg", "mjpeg")]
)
def test_video_without_time_stamps_is_read_at_its_frame_rate(run, tmp_path: Path, codec: str, suffix: str):
    path = write_tracks(tmp_path / f"face.{suffix}", Video(faces(), codec))
    done = run(path)
    assert done.code == 0
    assert 9 <= len(done.events) <= 10
    assert done.uses("face") >= 8
    done.message("has no time stamps", "25 frames a second", "--frame-rate")
    slow = run(path, "--frame-rate", 5)
    assert 48 <= len(slow.events) <= 50
    assert not any("no time stamps" in message for message in slow.messages)


def test_samples_without_a_header_are_read_in_a_given_format(run, tmp_path: Path):
    path = tmp_path / "voice.pcm"
    path.write_bytes(to_raw_bytes(voice(SECONDS)))
    done = run(path, "--raw-audio", "s16le:16000:1")
    assert (done.code, len(done.events)) == (0, 10)
    assert done.uses("speech") >= 4
    stereo = run(path, "--raw-audio", "s16le:8000:2")
    assert len(stereo.events) == 10
    face = write_recording(tmp_path / "face.mp4", video_frames=faces())
    both = run("--video", face, "--audio", path, "--raw-audio", "s16le:16000:1")
    assert both.uses("face") >= 8
    assert both.uses("speech") >= 4


@pytest.mark.parametrize(
    "text", ["s16le", "s16le:16000", "mp3:16000:1", "s16le:16000:0", "s16le:16000:65", "f16le:16000:1", "s16le:x:1", ""]
)
def test_a_wrong_format_of_samples_is_refused(run, tmp_path: Path, text: str):
    (tmp_path / "voice.pcm").write_bytes(bytes(32_000))
    done = run(tmp_path / "voice.pcm", "--raw-audio", text)
    assert (done.code, done.events) == (2, [])
    done.message("is not FORMAT:RATE:CHANNELS, for example s16le:16000:1")


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_joined_recordings_are_processed_to_the_end_on_one_clock(run, tmp_path: Path, suffix: str):
    part = write_tracks(tmp_path / f"part.{suffix}", Video(faces(), "mpeg2video"), Sound(voice(SECONDS), "mp2"))
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(4 * part.read_bytes())
    done = run(joined)
    assert done.code == 0
    assert 38 <= len(done.events) <= 42
    times = [event["data"]["capture_time_ns"] for event in done.events]
    assert times == sorted(times)
    assert done.uses("face") >= 30
    assert sum("speech" in event["data"]["modalities"] for event in done.events[-10:]) >= 4
    done.message("the time stamps of the video jumped 3 times, first at 2.0 s by -2.0 s")
    done.message("the time stamps of the audio jumped 3 times")


def test_joined_recordings_of_different_formats_are_processed_to_the_end(run, tmp_path: Path):
    first = write_tracks(tmp_path / "1.ts", Video(faces(), "mpeg2video"), Sound(voice(SECONDS), "mp2"))
    second = write_tracks(
        tmp_path / "2.ts", Video(faces(SECONDS, 640, 480), "mpeg2video"), Sound(voice(SECONDS), "mp2", layout="stereo")
    )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    done = run(joined)
    assert 19 <= len(done.events) <= 21
    sizes = [event["data"]["frame_wh"] for event in done.events if event["data"]["frame_wh"]]
    assert (sizes[0], sizes[-1]) == ([320, 240], [640, 480])
    assert sum("speech" in event["data"]["modalities"] for event in done.events[-5:]) >= 3


@pytest.mark.parametrize("suffix", ["wav", "mkv", "mp4", "flv", "ogg", "aiff"])
def test_joined_recordings_are_processed_to_the_end_where_ffmpeg_reads_the_first_alone(run, tmp_path: Path, suffix: str):
    codec = {"ogg": "flac", "aiff": "pcm_s16be"}.get(suffix)
    rates_hz = (44_100, 22_050) if suffix in ("flv", "ogg") else (16_000, 48_000)  # FFmpeg does not continue with another rate
    parts = [
        write_recording(tmp_path / f"{rate_hz}.{suffix}", sound=voice(SECONDS, rate_hz), rate_hz=rate_hz, audio_codec=codec)
        for rate_hz in rates_hz
    ]
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in (*parts, parts[0])))
    done = run(joined)
    assert done.code == 0
    assert 29 <= len(done.events) <= 33
    assert sum("speech" in event["data"]["modalities"] for event in done.events[-5:]) >= 3
    done.message("the time stamps of the audio jumped 2 times, first at 2")
    assert not any("belong to none" in message for message in done.messages)


@pytest.mark.parametrize("suffix", ["mp4", "flv"])
def test_the_tracks_of_joined_recordings_stay_aligned(run, tmp_path: Path, suffix: str):
    options = {"audio_codec": "aac", "video_codec": "flv" if suffix == "flv" else "mpeg4"}
    parts = [write_talking_face(tmp_path / f"{seconds}.{suffix}", seconds, **options) for seconds in (2.0, 1.0)]
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in (*parts, parts[0])))
    done = run(joined)
    assert 24 <= len(done.events) <= 27
    assert done.uses("face") >= 22
    assert sum(event["data"]["modalities"] == ["face", "speech"] for event in done.events[-5:]) >= 3
    done.message("time stamps of the video jumped 2 times, first at 2")
    done.message("time stamps of the audio jumped 2 times, first at 2")


def test_data_behind_a_recording_is_named(run, tmp_path: Path):
    path = write_recording(tmp_path / "sound.wav", sound=voice(SECONDS))
    path.write_bytes(path.read_bytes() + b"RIFF" + bytes(path.stat().st_size))
    done = run(path)
    assert done.code == 0
    done.message("sound.wav", "the last 50 % of the file belong to none of its tracks; if recordings were joined, process")


@pytest.mark.parametrize("kept", [0, 24, 40, 400])
def test_a_truncated_index_does_not_end_a_recording(run, tmp_path: Path, kept: int):
    path = write_talking_face(tmp_path / "clip.avi", SECONDS, audio_codec="mp3", video_codec="mpeg4")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1") + kept])
    done = run(path)
    assert done.code == 0
    assert (done.uses("face"), done.uses("speech") >= 4) == (10, True)


def test_recordings_without_jumps_report_none(run, talking_face: Path):
    (summary,) = run(talking_face).messages
    assert "15 events" in summary


# One track's fault is not the other's


def both_tracks(path: Path, audio_codec: str = "pcm_s16le") -> Path:
    return write_talking_face(path, SECONDS, audio_codec=audio_codec)


def test_an_unknown_audio_codec_leaves_the_video(run, tmp_path: Path):
    done = run(with_unknown_codec(both_tracks(tmp_path / "a.mkv", "flac"), b"A_FLAC"))
    assert done.code == 0
    assert done.uses("face") >= 8
    assert {event["data"]["devices"]["microphone"] for event in done.events} == {"absent"}
    done.message("a.mkv", "the audio track has an unknown codec and is left out")


def test_an_unknown_video_codec_leaves_the_sound(run, tmp_path: Path):
    path = write_talking_face(tmp_path / "a.mkv", SECONDS, video_codec="ffv1", audio_codec="pcm_s16le")
    done = run(with_unknown_codec(path, b"V_FFV1"))
    assert done.code == 0
    assert done.uses("speech") >= 4
    done.message("the video track has an unknown codec and is left out")


def test_two_unknown_codecs_are_a_failure(run, tmp_path: Path):
    path = write_talking_face(tmp_path / "a.mkv", SECONDS, video_codec="ffv1", audio_codec="flac")
    done = run(with_unknown_codec(with_unknown_codec(path, b"V_FFV1"), b"A_FLAC"))
    assert (done.code, done.events) == (1, [])
    (message,) = done.messages
    assert "the video track has an unknown codec" in message
    assert "the audio track has an unknown codec" in message


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_an_empty_track_leaves_the_other(run, tmp_path: Path, suffix: str):
    done = run(write_tracks(tmp_path / f"a.{suffix}", Video(faces()), Sound(None)))
    assert done.code == 0
    assert done.uses("face") >= 8
    done.message("contains no audio: its audio stream is empty")
    done = run(write_tracks(tmp_path / f"b.{suffix}", Video([]), Sound(voice(SECONDS))))
    assert done.code == 0
    assert done.uses("speech") >= 4
    done.message("no frame of its video track can be decoded")


def test_a_shorter_track_does_not_end_the_other(run, tmp_path: Path):
    short_sound = run(write_tracks(tmp_path / "a.mkv", Video(faces(4.0)), Sound(voice(1.5))))
    assert (short_sound.code, len(short_sound.events)) == (0, 19)
    assert short_sound.uses("face") >= 17
    short_video = run(write_tracks(tmp_path / "b.mkv", Video(faces(1.0)), Sound(voice(4.0))))
    assert (short_video.code, len(short_video.events)) == (0, 20)
    assert sum("speech" in event["data"]["modalities"] for event in short_video.events[-5:]) == 5


def test_a_truncated_file_gives_all_that_it_still_holds(run, tmp_path: Path):
    """The sound of a fragment lies behind its video: half of the file holds nearly all frames and no sound."""
    options = {"movflags": "empty_moov", "frag_duration": "4000000"}
    path = write_tracks(tmp_path / "a.mp4", Video(faces(4.0)), Sound(voice(4.0), "aac"), options=options)
    data = path.read_bytes()
    path.write_bytes(data[: int(0.8 * len(data))])
    done = run(path)
    assert done.code == 0
    assert re.search(r" (99|100) frames", done.messages[0])
    assert 1 <= done.uses("speech") < 15
    done.message("1 damaged packets")


def test_damage_in_the_middle_does_not_end_a_track(run, tmp_path: Path):
    path = write_tracks(tmp_path / "a.ts", Video(faces(6.0), "mpeg2video"), Sound(voice(6.0), "mp2"))
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = np.random.default_rng(0).bytes(third)
    path.write_bytes(bytes(data))
    done = run(path)
    assert done.code == 0
    assert len(done.events) >= 28
    assert done.uses("face") >= 8


@pytest.mark.parametrize("name", ["empty.wav", "header.mkv"])
def test_a_run_that_used_nothing_fails_and_says_why(run, tmp_path: Path, name: str):
    path = tmp_path / name
    if name == "empty.wav":
        write_empty_wav(path)
    else:
        write_tracks(path, Video([]), Sound(None))
    done = run(path)
    assert (done.code, done.events) == (1, [])
    assert len(done.messages) == 1
    done.message(name)


def test_a_limit_before_the_first_datum_is_no_failure(run, tmp_path: Path):
    path = write_recording(tmp_path / "late.mkv", sound=voice(1.0), sound_start_ms=5000, video_frames=nothing(7.0))
    assert run("--audio", path, "--seconds", 0.01).code == 0


def test_a_title_that_is_not_utf_8_does_not_matter(run, tmp_path: Path):
    path = tmp_path / "title.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "XXXXXXXX"
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (voice(SECONDS) * 32_767).astype(np.int16).reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    data = path.read_bytes()
    assert data.count(b"XXXXXXXX") == 1
    path.write_bytes(data.replace(b"XXXXXXXX", "caf\u00e9 \u00fc \u00df".encode("latin-1")))
    assert run(path).uses("speech") >= 4


# Which track


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_default_tracks_are_used(run, tmp_path: Path, suffix: str):
    codec = "aac" if suffix == "mp4" else "pcm_s16le"
    silence = np.zeros(int(SECONDS * 16_000), np.float32)
    path = write_tracks(
        tmp_path / f"a.{suffix}",
        Video(nothing()), Video(faces(), default=True), Sound(silence, codec), Sound(voice(SECONDS), codec, default=True),
    )  # fmt: skip
    done = run(path)
    assert done.uses("face") >= 8
    assert done.uses("speech") >= 4
    done.message("has 2 audio tracks: using track 1", "--audio-track")
    done.message("has 2 video tracks: using track 1", "--video-track")


def test_tracks_can_be_chosen(run, tmp_path: Path):
    silence = np.zeros(int(SECONDS * 16_000), np.float32)
    path = write_tracks(
        tmp_path / "a.mkv", Video(nothing()), Video(faces()), Sound(silence), Sound(voice(SECONDS)), Sound(silence)
    )
    first = run(path)
    assert (first.uses("face"), first.uses("speech")) == (0, 0)
    chosen = run(path, "--video-track", 1, "--audio-track", 1)
    assert chosen.uses("face") >= 8
    assert chosen.uses("speech") >= 4
    assert not any("using track" in message for message in chosen.messages)
    assert first.events[0]["source"] != chosen.events[0]["source"]
    assert run(path, "--audio-track", 2).uses("speech") == 0


def test_a_track_that_does_not_exist_is_refused_and_the_others_are_listed(run, tmp_path: Path):
    path = write_tracks(tmp_path / "a.mkv", Video(faces(0.2)), Sound(voice(0.2), language="deu"), Sound(voice(0.2)))
    done = run(path, "--audio-track", 2)
    assert (done.code, done.events) == (2, [])
    done.message("has no audio track 2; its audio tracks are: 0 (pcm_s16le mono deu), 1 (pcm_s16le mono")
    assert run("--video", path, "--video-track", 1).code == 2


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("flac", "flac")])
def test_a_cover_image_is_no_video(run, tmp_path: Path, suffix: str, codec: str):
    path = write_tracks(tmp_path / f"a.{suffix}", Sound(voice(SECONDS), codec), cover=face_frame(0))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    done = run(path)
    assert {event["data"]["devices"]["camera"] for event in done.events} == {"absent"}
    assert done.uses("speech") >= 4


# Geometry


@pytest.mark.parametrize(
    ("suffix", "width", "aspect"),
    [
        ("mp4", 160, Fraction(2, 1)), ("mkv", 160, Fraction(2, 1)), ("mp4", 240, Fraction(4, 3)), ("mkv", 360, Fraction(8, 9)),
        ("mpg", 240, Fraction(4, 3)),
    ],
)  # fmt: skip
def test_pixels_are_made_square_before_the_face_is_searched(run, tmp_path: Path, suffix: str, width: int, aspect: Fraction):
    squeezed = [cv2.resize(image, (width, 240), interpolation=cv2.INTER_AREA) for image in faces()]
    codec = "mpeg2video" if suffix == "mpg" else "mpeg4"
    square = run(write_tracks(tmp_path / f"square.{suffix}", Video(faces(), codec)))
    done = run(write_tracks(tmp_path / f"squeezed.{suffix}", Video(squeezed, codec, aspect=aspect)))
    assert done.uses("face") == square.uses("face") >= 8
    event, expected = done.events[-1]["data"], square.events[-1]["data"]
    assert event["frame_wh"] == expected["frame_wh"]
    np.testing.assert_allclose(event["faces"][0]["box_xywh"], expected["faces"][0]["box_xywh"], atol=8)


def test_squeezed_pixels_of_a_rotated_video(run, tmp_path: Path):
    upright = [cv2.resize(image, (320, 120), interpolation=cv2.INTER_AREA) for image in faces()]
    turned = [np.ascontiguousarray(np.rot90(image, -1)) for image in upright]  # stored: 120 x 320, pixels twice as wide
    done = run(write_tracks(tmp_path / "a.mp4", Video(turned, aspect=Fraction(2, 1), rotation_deg=90)))
    assert done.uses("face") >= 8
    assert done.events[-1]["data"]["frame_wh"] == [320, 240]


# Short recordings


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff"])
def test_one_image_gives_one_event_with_its_face(run, tmp_path: Path, suffix: str):
    path = tmp_path / f"face %03d.{suffix}"  # a name that FFmpeg could take for a pattern
    cv2.imwrite(str(path), cv2.cvtColor(face_frame(0, 640, 480), cv2.COLOR_GRAY2BGR))
    done = run(path)
    assert done.code == 0
    assert len(done.events) == 1
    assert done.events[0]["data"]["modalities"] == ["face"]
    assert done.events[0]["data"]["devices"] == {"camera": "ok", "microphone": "absent"}


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_an_image_is_rotated_as_its_exif_states(run, tmp_path: Path, orientation: int, quarter_turns: int):
    path = tmp_path / "face.jpg"
    upright = face_frame(0, 640, 480)
    jpeg = cv2.imencode(".jpg", np.ascontiguousarray(np.rot90(upright, quarter_turns)))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    with VideoFile(str(path)) as video:
        (frame,) = video
    assert frame.grey.shape == upright.shape
    assert np.abs(frame.grey.astype(float) - upright).mean() < 2
    (event,) = run(path).events
    assert event["data"]["modalities"] == ["face"]
    assert event["data"]["frame_wh"] == [640, 480]


@pytest.mark.parametrize(
    ("matrix", "turn"), [((-1, 0, 0, 1), np.fliplr), ((1, 0, 0, -1), np.flipud), ((0, 1, 1, 0), np.transpose)]
)
def test_a_mirrored_video_is_shown_upright(tmp_path: Path, matrix: tuple[int, ...], turn: Callable[[U8], U8]):
    upright = face_frame(0, 320, 240)
    stored = np.ascontiguousarray(turn(upright))
    path = write_recording(tmp_path / "clip.mp4", video_frames=[stored] * 3)
    data = path.read_bytes()
    identity, changed = (
        struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30) for a, b, c, d in ((1, 0, 0, 1), matrix)
    )
    track = data.index(b"tkhd")
    path.write_bytes(data[:track] + data[track:].replace(identity, changed, 1))
    with VideoFile(str(path)) as video:
        frame = next(iter(video))
    assert np.abs(frame.grey.astype(float) - (16 + upright * (219 / 255))).mean() < 4


def test_an_image_gives_one_event_at_any_rate(run, tmp_path: Path):
    path = tmp_path / "face.jpg"
    cv2.imwrite(str(path), face_frame(0, 640, 480))
    for rate_hz in (0.2, 5, 50):
        assert len(run(path, "--set", f"fusion.rate_hz={rate_hz}").events) == 1
    assert len(run(path, "--set", "face.tracker.confirm_hits=10").events) == 1


def test_a_recording_that_is_shorter_than_a_tick_gives_an_event_at_its_end(run, tmp_path: Path):
    (event,) = run(write_recording(tmp_path / "short.wav", sound=voice(0.1))).events
    assert event["time"] == "1970-01-01T00:00:00.100000Z"
    assert event["data"]["state"] == "no_speech"
    (event,) = run(write_recording(tmp_path / "short.mp4", video_frames=faces(0.16))).events
    assert event["data"]["modalities"] == ["face"]
    assert event["time"] == "1970-01-01T00:00:00.120000Z"
    (event,) = run(write_talking_face(tmp_path / "long.mp4", 3.0), "--set", "fusion.rate_hz=0.2").events
    assert event["data"]["modalities"] == ["face", "speech"]


def test_nothing_is_printed_by_the_decoders(tiny_bundle: Path, tmp_path: Path):
    path = write_tracks(tmp_path / "a.ts", Video(faces(), "mpeg2video"), Sound(voice(SECONDS), "mp2"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :: 50] = bytes(len(data[len(data) // 2 :: 50]))
    path.write_bytes(bytes(data))
    command = [
        sys.executable,
        "-m",
        "moodring.cli",
        "run",
        str(path),
        "--pace",
        "max",
        "--events",
        "none",
        "--set",
        f"bundle={tiny_bundle}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout == ""
    assert all(line.startswith("moodring: ") for line in done.stderr.splitlines()), done.stderr
