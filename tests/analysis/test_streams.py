"""moodring.open_stream: devices, recordings, and frames and sound that the caller pushes."""

from __future__ import annotations

import dataclasses
import heapq
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import moodring
from moodring import cli
from moodring.analysis.row import row_of
from moodring.analysis.streams.feed import SoundInput
from moodring.capture.media import AudioFile, VideoFile
from moodring.clock import NS_PER_S
from moodring.config import InputConfig, StreamConfig, VideoConfig
from moodring.errors import ConfigError, DeviceError, MediaError, UsageError
from moodring.publish.cloudevents import to_json
from moodring.run.sources import SAMPLE_CLIP
from moodring.types import AudioBlock, EmotionEvent, VideoFrame
from tests.support.devices.mjpeg import SoftwareCamera
from tests.support.signals import empty_frame, face_frame, voice


@pytest.fixture(scope="module")
def models() -> moodring.Models:
    return moodring.load_models()


def published(events: list[EmotionEvent]) -> list[tuple]:
    """Return what must be equal bit for bit: the rows of events, without their times."""
    return [dataclasses.astuple(row_of(event, 0.0)) for event in events]


def data_of(path: Path) -> Iterator[VideoFrame | AudioBlock]:
    """Yield the frames and blocks of a recording in the order of their times."""
    with VideoFile(str(path)) as video, AudioFile(str(path)) as audio:
        frames = ((frame.capture_time_ns, 1, frame) for frame in video)
        blocks = ((block.end_time_ns, 0, block) for block in audio)
        for _, _, datum in heapq.merge(frames, blocks, key=lambda item: item[:2]):
            yield datum


def push(stream: moodring.FeedStream, datum: VideoFrame | AudioBlock) -> None:
    time_s = datum.capture_time_ns / NS_PER_S
    if isinstance(datum, VideoFrame):
        stream.push_frame(datum.grey, time_s)
    else:
        stream.push_audio(datum.samples, datum.rate_hz, time_s)


# A run, an analysis, a stream and pushed data agree


def test_a_recording_gives_the_same_rows_every_way(models: moodring.Models, tmp_path: Path):
    assert cli.main(["run", str(SAMPLE_CLIP), "--pace", "max", "--events", str(tmp_path / "events.jsonl")]) == 0
    with moodring.open_stream(source=SAMPLE_CLIP, pace="max", models=models) as stream:
        events = list(stream)
    assert "".join(f"{to_json(event)}\n" for event in events) == (tmp_path / "events.jsonl").read_text()
    assert stream.closed
    rows = published(events)
    assert [dataclasses.astuple(dataclasses.replace(row, time_s=0.0)) for row in moodring.analyze(SAMPLE_CLIP)] == rows
    assert sum(len(event.modalities) == 2 for event in events) > 50
    with moodring.open_stream(feed="both", models=models) as feed:
        for datum in data_of(SAMPLE_CLIP):
            push(feed, datum)
        feed.finish()
        assert published(feed.events()) == rows
    assert feed.counters["frames_captured"] == 350
    assert {event.latency_ms for event in events} == {None}


def test_pushed_frames_and_sound_may_arrive_in_another_order(talking_face: Path, models: moodring.Models):
    """Sound that is pushed up to a second late gives the same rows: what came before waits for it."""
    data = list(data_of(talking_face))
    with moodring.open_stream(feed="both", models=models) as ordered, moodring.open_stream(feed="both", models=models) as late:
        for datum in data:
            push(ordered, datum)

        def due_ns(datum: VideoFrame | AudioBlock) -> int:
            return datum.capture_time_ns + (0 if isinstance(datum, VideoFrame) else NS_PER_S // 2)

        for datum in sorted(data, key=due_ns):
            push(late, datum)
        ordered.finish()
        late.finish()
        assert published(late.events()) == published(ordered.events())


def test_full_frames_and_other_rates_can_be_pushed(models: moodring.Models):
    colour = np.dstack([cv2.resize(face_frame(0), (1280, 960))] * 3)
    with moodring.open_stream(feed="both", models=models) as stream:
        for index in range(20):
            stream.push_frame(colour, index / 10)
            stream.push_audio(voice(2.0, 48_000)[4800 * index : 4800 * (index + 1)], 48_000, index / 10)
        colour[:] = 0  # the stream copied it
        stream.finish()
        events = list(stream)
    assert len(events) == 10
    assert events[-1].faces[0].box_xywh[2] > 200  # in pixels of the frame that was pushed
    assert events[-1].face is not None
    assert stream.counters["samples_captured"] == 96_000


def test_an_input_that_stops_is_lost_and_the_other_goes_on(models: moodring.Models):
    with moodring.open_stream(feed="both", models=models) as stream:
        for index in range(40):
            if index < 10:
                stream.push_audio(np.zeros(1600, np.int16), 16_000, index / 10)
            stream.push_frame(face_frame(index), index / 10)
        states = [event.devices["microphone"] for event in stream.events()]
    assert states[0] == "ok"
    assert states[-1] == "lost"
    assert set(states) == {"ok", "lost"}


def test_frames_out_of_order_are_dropped_and_counted(models: moodring.Models):
    with moodring.open_stream(feed="video", models=models) as stream:
        for time_s in (0.0, 0.4, 0.2, 0.4, 0.8):
            stream.push_frame(empty_frame(0), time_s)
        assert stream.dropped["frames_out_of_order"] == 2
        assert stream.counters["frames_captured"] == 5
        assert [event.state for event in stream.events()] == ["no_face"] * 3


def test_without_times_the_time_is_now(models: moodring.Models):
    with moodring.open_stream(feed="video", models=models) as stream:
        before = time.monotonic_ns()
        for index in range(12):
            stream.push_frame(face_frame(index))
            time.sleep(0.05)
        events = stream.events()
        steps = (time.monotonic_ns() - before) / NS_PER_S * 5  # more than three on a busy machine
        assert 2 <= len(events) <= steps + 1
        assert all(before - NS_PER_S < event.capture_time_ns <= time.monotonic_ns() for event in events)
        assert events[0].time_utc[:4] >= "2024"
        with pytest.raises(UsageError, match="or with none"):
            stream.push_frame(face_frame(0), 1.0)


def test_a_consumer_waits_for_events_of_another_thread(models: moodring.Models):
    stream = moodring.open_stream(feed="video", models=models)
    found: list[EmotionEvent] = []
    consumer = threading.Thread(target=lambda: found.extend(stream))
    consumer.start()
    for index in range(10):
        stream.push_frame(face_frame(index), index / 10)
    stream.finish()
    consumer.join(5)
    assert not consumer.is_alive()
    assert len(found) == 4
    assert stream.closed


def test_wrong_data_is_refused_and_the_stream_goes_on(models: moodring.Models):
    with moodring.open_stream(feed="video", models=models) as stream:
        for wrong in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 7), np.uint8), np.zeros(0, np.uint8)):
            with pytest.raises(UsageError, match="an image must"):
                stream.push_frame(wrong, 0.0)
        with pytest.raises(UsageError, match="opened without sound"):
            stream.push_audio(np.zeros(160, np.int16), 16_000, 0.0)
        for time_s in (-1.0, float("nan"), float("inf")):
            with pytest.raises(UsageError, match="time_s must be seconds"):
                stream.push_frame(face_frame(0), time_s)
        stream.push_frame(face_frame(0), 0.0)
        stream.finish()
        stream.finish()
        with pytest.raises(UsageError, match="finished or closed"):
            stream.push_frame(face_frame(0), 1.0)
        assert len(stream.events()) == 1
    with pytest.raises(UsageError, match="finished or closed"):
        stream.push_frame(face_frame(0), 1.0)
    assert list(stream) == []


def test_a_gap_in_pushed_sound_is_a_gap(models: moodring.Models):
    with moodring.open_stream(feed="audio", models=models) as stream:
        for start_s in (0.0, 0.1, 0.2, 0.5, 0.6):
            stream.push_audio(np.zeros(4410, np.float32), 44_100, start_s)
        stream.finish()
        assert stream.counters["sound_gaps"] == 1
        assert stream.counters["samples_heard"] == 8000


@pytest.mark.parametrize("sizes", [[1], [7, 4000, 1], [100_000]])
def test_any_division_of_pushed_sound_gives_the_same_samples(sizes: list[int]):
    samples = (voice(1.0, 44_100)[:, None] * 32_767).astype(np.int16)

    def converted(sizes: list[int]) -> np.ndarray:
        sound, position, blocks = SoundInput(), 0, []
        while position < len(samples):
            size = sizes[len(blocks) % len(sizes)] if len(blocks) < 50 else len(samples)
            time_ns = position * NS_PER_S // 44_100
            blocks.append(list(sound.push(samples[position : position + size], 44_100, time_ns, 40_000_000)))
            position += size
        return np.concatenate([block.samples for found in [*blocks, list(sound.flush())] for block in found])

    np.testing.assert_array_equal(converted(sizes), converted([4096]))


# Recordings and devices


def test_a_recording_in_real_time_can_be_closed_from_another_thread(talking_face: Path, models: moodring.Models):
    stream = moodring.open_stream(source=talking_face, models=models)
    timer = threading.Timer(0.5, stream.close)
    timer.start()
    started = time.monotonic()
    with stream:
        events = list(stream)
    assert time.monotonic() - started < 2.0
    assert 1 <= len(events) <= 3
    stream.close()
    timer.join()


def test_a_stream_that_is_left_early_releases_everything(talking_face: Path, models: moodring.Models):
    cv2_threads, threads = cv2.getNumThreads(), set(threading.enumerate())
    with moodring.open_stream(source=talking_face, pace="max", models=models) as stream:
        assert next(stream).seq == 0
        assert cv2.getNumThreads() == 1
    assert list(stream) == []
    assert cv2.getNumThreads() == cv2_threads
    assert set(threading.enumerate()) <= threads  # a thread of an earlier test may end meanwhile


def test_a_recording_that_fails_raises_at_its_end(tmp_path: Path, models: moodring.Models):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError, match="cannot be opened"):
        moodring.open_stream(source=tmp_path / "text.mp4", models=models)
    with pytest.raises(UsageError, match="no such file"):
        moodring.open_stream(source=tmp_path / "absent.mp4", models=models)


def camera_config(url: str) -> moodring.Config:
    return dataclasses.replace(moodring.Config(), video=VideoConfig(url), audio=InputConfig("none"))


@pytest.mark.live
def test_two_cameras_share_networks_and_report_the_state_of_their_device(
    models: moodring.Models, capfd: pytest.CaptureFixture[str]
):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    messages: list[str] = []
    with SoftwareCamera(face_frame) as camera, SoftwareCamera(empty_frame) as other:
        with (
            moodring.open_stream(camera_config(camera.url), models=models, log=messages.append) as stream,
            moodring.open_stream(camera_config(other.url), models=models, log=messages.append) as second,
        ):
            deadline = time.monotonic() + 10
            faces = next(event for event in stream if event.face or time.monotonic() > deadline)
            assert faces.face
            assert faces.latency_ms is not None
            assert next(second).face is None
            assert stream.mute("camera", True)
            assert next(event for event in stream if event.devices["camera"] == "muted")
            assert stream.counters["frames_captured"] > 0
            assert set(stream.dropped) >= {"frames_above_rate", "frames_overwritten", "frames_failed"}
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "see", "hear"))]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capfd.readouterr() == ("", "")
    assert any("nothing is stored" in message for message in messages)


@pytest.mark.live
def test_a_waiting_consumer_ends_when_the_stream_is_closed(models: moodring.Models):
    config = dataclasses.replace(
        camera_config("http://127.0.0.1:9/"), fusion=dataclasses.replace(moodring.Config().fusion, rate_hz=0.2)
    )
    stream = moodring.open_stream(config, models=models, log=lambda _: None)
    threading.Timer(0.3, stream.close).start()
    started = time.monotonic()
    assert list(stream) == []
    assert time.monotonic() - started < 3.0


def test_wrong_settings_are_refused(models: moodring.Models, monkeypatch: pytest.MonkeyPatch):
    config = moodring.Config()
    for wrong, error, says in (
        ({"source": "a.mp4", "feed": "video"}, UsageError, "either source or feed"),
        ({"feed": "smell"}, UsageError, "feed must be one of video, audio, both"),
        ({"source": "a.mp4", "pace": "slow"}, UsageError, "pace must be"),
        ({"config": dataclasses.replace(config, streams={"a": StreamConfig()})}, UsageError, "several streams"),
        ({"config": dataclasses.replace(config, bundle="other")}, ConfigError, "loaded for another bundle"),
        (
            {"config": dataclasses.replace(config, video=VideoConfig("none"), audio=InputConfig("none"))},
            UsageError,
            "both none",
        ),
    ):
        with pytest.raises(error, match=says):
            moodring.open_stream(**{"models": models} | wrong)
    from moodring.run import sources  # noqa: PLC0415

    monkeypatch.setattr(sources, "default_camera", lambda: None)
    monkeypatch.setattr(sources, "default_microphone", lambda: None)
    with pytest.raises(DeviceError, match="no camera and no microphone"):
        moodring.open_stream(models=models)
