"""Replay through the whole chain: identical bytes in every run and at any pace, on synthetic and on real clips."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.capture.media import AudioFile, VideoFile
from moodring.cli import main
from moodring.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from moodring.config import Config
from moodring.inference.bundle import DEFAULT
from moodring.publish.cloudevents import to_document, to_json
from moodring.run.replay import replay
from moodring.types import AudioBlock, EmotionEvent, VideoFrame
from tests.support.events import check_event, check_lines, make_pipeline
from tests.support.recordings import write_recording, write_talking_face
from tests.support.signals import empty_frame, face_frame, frames, split_into_blocks, voice

TICK_NS = 200 * NS_PER_MS


@pytest.fixture
def replayed(tiny_bundle: Path, tmp_path: Path) -> Callable[..., bytes]:
    """Return a function that runs `moodring run` in this process and returns the bytes of its events."""

    def run(source: Path, *arguments: str, bundle: Path = tiny_bundle) -> bytes:
        config, events = tmp_path / "config.yaml", tmp_path / "events.jsonl"
        config.write_text(f"bundle: {bundle}\n")
        events.unlink(missing_ok=True)
        with contextlib.redirect_stderr(io.StringIO()):
            code = main(["run", str(source), "--config", str(config), "--events", str(events), *arguments])
        assert code == 0
        return events.read_bytes()

    return run


# Determinism


def test_a_recording_gives_identical_bytes_at_any_pace(replayed, talking_face: Path):
    fast, again = replayed(talking_face, "--pace", "max"), replayed(talking_face, "--pace", "max")
    slow = replayed(talking_face, "--pace", "realtime")
    assert len(check_lines(fast.decode())) == 15
    assert fast == again
    assert fast == slow


def test_another_recording_has_another_source(replayed, talking_face: Path, tmp_path: Path):
    other = tmp_path / talking_face.name
    data = bytearray(talking_face.read_bytes())
    data[-1] ^= 1  # in the last field of the index
    other.write_bytes(bytes(data))
    (event, *_) = check_lines(replayed(talking_face, "--pace", "max", "--seconds", "1").decode())
    (changed, *_) = check_lines(replayed(other, "--pace", "max", "--seconds", "1").decode())
    assert event["source"] != changed["source"]


def test_a_recording_may_have_any_file_name(replayed, talking_face: Path, tmp_path: Path):
    path = tmp_path / "a b/ü %s {x}.mp4"
    path.parent.mkdir()
    path.write_bytes(talking_face.read_bytes())
    assert check_lines(replayed(path, "--pace", "max", "--seconds", "1").decode())


def test_times_derive_from_the_recording(replayed, talking_face: Path):
    events = check_lines(replayed(talking_face, "--pace", "max").decode())
    assert events[0]["time"] == "1970-01-01T00:00:00.200000Z"
    assert [event["data"]["latency_ms"] for event in events] == [None] * 15
    captured = [event["data"]["capture_time_ns"] for event in events]
    assert captured == sorted(captured)
    for index, event in enumerate(events):
        assert 0 <= (index + 1) * TICK_NS - event["data"]["capture_time_ns"] <= 500 * NS_PER_MS


# The merge of picture and sound


class Recorder:
    """A pipeline that records its calls in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def process_frame(self, frame: VideoFrame) -> None:
        self.seen.append(("see", frame.capture_time_ns))

    def search_new_faces(self, _: VideoFrame) -> None:
        pass

    def process_audio(self, block: AudioBlock) -> None:
        self.seen.append(("hear", block.end_time_ns))

    def tick(self, now_ns: int, devices: dict[str, str]) -> str:
        self.devices = devices
        self.seen.append(("tick", now_ns))
        return "event"


@settings(max_examples=60)
@given(
    frame_ms=st.lists(st.integers(1, 300), max_size=20),
    block_ms=st.lists(st.integers(1, 300), max_size=20),
    tick_ms=st.integers(20, 400),
    until_ms=st.none() | st.integers(1, 3000),
)
def test_data_arrives_in_order_and_no_tick_is_missing(frame_ms, block_ms, tick_ms, until_ms):
    video = [VideoFrame(np.zeros((2, 2), np.uint8), int(t) * NS_PER_MS, i) for i, t in enumerate(np.cumsum(frame_ms))]
    starts = np.cumsum([0, *block_ms])
    audio = [AudioBlock(np.zeros(16 * n, np.float32), int(t) * NS_PER_MS) for t, n in zip(starts, block_ms, strict=False)]
    recorder = Recorder()
    until_ns = None if until_ms is None else until_ms * NS_PER_MS
    published = [at_ns for at_ns, _ in replay(recorder, video, audio, tick_ns=tick_ms * NS_PER_MS, until_ns=until_ns)]
    times = [time_ns for _, time_ns in recorder.seen]
    rank = {"hear": 0, "see": 1, "tick": 2}  # of data with equal times
    order = [(time_ns, rank[what]) for what, time_ns in recorder.seen]
    assert order == sorted(order)
    ticks = [time_ns for what, time_ns in recorder.seen if what == "tick"]
    assert published == ticks
    whole = max([0, *np.cumsum(frame_ms), starts[-1]]) * NS_PER_MS
    end = whole if until_ns is None else min(whole, until_ns)
    expected = [(i + 1) * tick_ms * NS_PER_MS for i in range(end // (tick_ms * NS_PER_MS))]
    is_answered_at_end = not expected and any(what != "tick" for what, _ in recorder.seen)
    assert ticks == ([end] if is_answered_at_end else expected)
    if until_ns is None:
        assert sum(what == "see" for what, _ in recorder.seen) == len(video)
        assert sum(what == "hear" for what, _ in recorder.seen) == len(audio)
    assert all(time_ns <= (until_ns or time_ns) for time_ns in times)


@pytest.mark.parametrize(
    ("video", "audio", "devices"),
    [
        (True, False, {"camera": "ok", "microphone": "absent"}),
        (False, True, {"camera": "absent", "microphone": "ok"}),
        (True, True, {"camera": "ok", "microphone": "ok"}),
    ],
)
def test_a_missing_modality_is_absent(video: bool, audio: bool, devices: dict[str, str]):
    recorder = Recorder()
    list(
        replay(
            recorder,
            list(frames(empty_frame(i) for i in range(10))) if video else None,
            list(split_into_blocks(voice(0.5), [320] * 20)) if audio else None,
            tick_ns=TICK_NS,
        )
    )
    assert recorder.devices == devices


def test_in_real_time_no_data_arrives_early(tiny_bundle: Path):
    clock = SimulatedClock(start_ns=5 * NS_PER_S)
    came: list[tuple[int, int]] = []

    class Watching(Recorder):
        def process_frame(self, frame: VideoFrame) -> None:
            came.append((clock.now_ns() - 5 * NS_PER_S, frame.capture_time_ns))

    list(replay(Watching(), list(frames(empty_frame(i) for i in range(20))), None, tick_ns=TICK_NS, pace=clock))
    assert all(now_ns == time_ns for now_ns, time_ns in came)
    assert len(came) == 20


# Recordings of every shape


def events_of(bundle: Path, path: Path, *, video: bool, audio: bool) -> list[EmotionEvent]:
    pipeline = make_pipeline(bundle, Config())
    with contextlib.ExitStack() as stack:
        picture = stack.enter_context(VideoFile(str(path))) if video else None
        sound = stack.enter_context(AudioFile(str(path))) if audio else None
        events = [event for _, event in replay(pipeline, picture, sound, tick_ns=TICK_NS)]
    for event in events:
        check_event(to_document(event))
    return events


@pytest.mark.parametrize(
    ("rate_hz", "layout"), [(8000, "mono"), (44_100, "stereo"), (48_000, "5.1"), (96_000, "mono")], ids=str
)
def test_a_voice_of_any_sample_rate_and_channel_count_is_processed(
    tiny_bundle: Path, tmp_path: Path, rate_hz: int, layout: str
):
    path = write_recording(tmp_path / "voice.wav", sound=voice(2.0, rate_hz), rate_hz=rate_hz, layout=layout)
    events = events_of(tiny_bundle, path, video=False, audio=True)
    assert len(events) == 10
    assert [event.modalities for event in events[-3:]] == [("speech",)] * 3


def test_a_face_at_a_variable_frame_rate_is_tracked(tiny_bundle: Path, tmp_path: Path):
    times_ms = [0, 40, 50, 90, 200, 210, 250, 330, 500, 510, 520, 700, 900, 1000]
    path = write_recording(tmp_path / "face.mkv", video_frames=[face_frame(i) for i in range(len(times_ms))], times_ms=times_ms)
    events = events_of(tiny_bundle, path, video=True, audio=False)
    assert [event.modalities for event in events[-2:]] == [("face",)] * 2


def test_sound_that_starts_late_keeps_its_time(tiny_bundle: Path, tmp_path: Path):
    path = write_recording(
        tmp_path / "late.mkv", video_frames=[face_frame(i) for i in range(75)], sound=voice(1.5), sound_start_ms=1400
    )
    events = events_of(tiny_bundle, path, video=True, audio=True)
    heard_ms = [event.seq * 200 + 200 for event in events if "speech" in event.modalities]
    assert heard_ms[0] == 2600  # 1400 + 1015 is 2415: the next tick
    assert len(events[heard_ms[0] // 200].modalities) == 2


def test_the_order_of_replays_does_not_matter(tiny_bundle: Path, talking_face: Path, tmp_path: Path):
    other = write_talking_face(tmp_path / "other.mp4", seconds=1.5)
    alone = [to_json(event) for event in events_of(tiny_bundle, talking_face, video=True, audio=True)]
    events_of(tiny_bundle, other, video=True, audio=True)
    assert [to_json(event) for event in events_of(tiny_bundle, talking_face, video=True, audio=True)] == alone


# Real recordings

GRID = 11


@pytest.mark.data
def test_every_grid_clip_gives_valid_events_from_both_modalities(data_path, replayed):
    clips = sorted(data_path("av_clips").glob("grid_*.mpg"))
    assert len(clips) == GRID
    without = []
    for clip in clips:
        events = check_lines(replayed(clip, "--pace", "max").decode())
        assert len(events) >= 14, clip.name
        if not any(len(event["data"]["modalities"]) == 2 for event in events):
            without.append(clip.name)
    assert without == []


@pytest.mark.data
def test_a_grid_clip_gives_identical_bytes_twice(data_path, replayed):
    clip = data_path("av_clips/grid_bbaf2n.mpg")
    assert replayed(clip, "--pace", "max") == replayed(clip, "--pace", "max")


@pytest.mark.data
def test_crema_d_clips_give_events_from_both_modalities(data_path, replayed):
    clips = sorted(data_path("crema_d_sample/clips").iterdir())
    assert len(clips) == 6
    for clip in clips:
        events = check_lines(replayed(clip, "--pace", "max").decode())
        assert any("face" in event["data"]["modalities"] for event in events), clip.name


@pytest.mark.data
@pytest.mark.parametrize("name", ["pyfeat_no_face.mp4", "intel_bottle-detection.mp4"])
def test_no_face_is_classified_in_clips_without_one(data_path, replayed, name: str):
    events = check_lines(replayed(data_path(f"video/{name}"), "--pace", "max", "--seconds", "6").decode())
    assert len(events) >= 19
    assert not any(event["data"]["face"] or event["data"]["faces"] for event in events)


@pytest.mark.data
@pytest.mark.parametrize(("name", "there_first"), [("pyfeat_face_noface.mov", True), ("pyfeat_noface_face.mov", False)])
def test_a_face_is_published_only_while_it_is_in_view(data_path, replayed, name: str, there_first: bool):
    events = check_lines(replayed(data_path(f"video/{name}"), "--pace", "max").decode())
    seen = ["face" in event["data"]["modalities"] for event in events]
    assert len(seen) == 31
    first, last = np.mean(seen[:10]), np.mean(seen[-8:])
    assert (first, last) == ((1.0, 0.0) if there_first else (0.0, 1.0))


@pytest.mark.data
def test_the_shipped_bundle_uses_face_and_voice_of_every_grid_clip(data_path, replayed):
    for clip in sorted(data_path("av_clips").glob("grid_*.mpg")):
        events = check_lines(replayed(clip, "--pace", "max", bundle=DEFAULT).decode())
        assert sum(len(event["data"]["modalities"]) == 2 for event in events) >= 1, clip.name
        assert replayed(clip, "--pace", "max", bundle=DEFAULT)


def test_the_shipped_bundle_classifies_the_sample_clip(replayed):
    sample = Path(DEFAULT).parents[1] / "samples" / "clip.mp4"
    events = check_lines(replayed(sample, "--pace", "max", bundle=DEFAULT).decode())
    assert sum(len(event["data"]["modalities"]) == 2 for event in events) >= 10
    assert replayed(sample, "--pace", "max", bundle=DEFAULT) == replayed(sample, "--pace", "max", bundle=DEFAULT)
