"""The pipeline: events for a face, a voice, both and neither; its counters; its resets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.config import Config, FaceConfig, FusionConfig, LabelsConfig, parse
from moodring.errors import BundleError
from moodring.labels import LABELS
from moodring.pipeline import Pipeline
from moodring.publish.cloudevents import to_document, to_json
from moodring.types import AudioBlock, EmotionEvent, VideoFrame
from tests.support.events import DEVICES_OK, check_event, make_pipeline
from tests.support.signals import empty_frame, face_frame, frames, split_into_blocks, voice
from tests.support.tiny_bundle import write_tiny_bundle

TICK_NS = 200 * NS_PER_MS
CAMERA, MICROPHONE = {"camera": "ok", "microphone": "absent"}, {"camera": "absent", "microphone": "ok"}


def show_faces(pipeline: Pipeline, seconds: float, start_ns: int = 0) -> None:
    for frame in frames((face_frame(i) for i in range(round(15 * seconds))), start_ns=start_ns):
        pipeline.process_frame(frame)
        pipeline.search_new_faces(frame)


def speak(pipeline: Pipeline, seconds: float, start_ns: int = 0, block: int = 320) -> None:
    sound = voice(seconds)
    for piece in split_into_blocks(sound, [block] * (sound.size // block), start_ns):
        pipeline.process_audio(piece)


def tick(pipeline: Pipeline, now_s: float, devices=DEVICES_OK) -> EmotionEvent:
    event = pipeline.tick(round(now_s * NS_PER_S), devices)
    check_event(to_document(event))
    return event


def test_face_and_voice_are_fused(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    show_faces(pipeline, 2.0)
    speak(pipeline, 2.0)
    event = tick(pipeline, 2.0)
    assert event.state == "ok"
    assert set(event.modalities) == {"face", "speech"}
    assert event.label in LABELS
    assert len(event.faces) == 1
    assert event.capture_time_ns == pytest.approx(2.0 * NS_PER_S, abs=0.1 * NS_PER_S)
    assert event.latency_ms is None
    assert pipeline.counters.events_with_both == 1


def test_a_face_without_a_voice_is_published(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    show_faces(pipeline, 1.0)
    event = tick(pipeline, 1.0, CAMERA)
    assert (event.state, event.modalities, event.speech) == ("ok", ("face",), None)
    assert event.face.probabilities["calm"] == 0.0


def test_a_voice_without_a_face_is_published(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    speak(pipeline, 1.6)
    event = tick(pipeline, 1.6, MICROPHONE)
    assert (event.state, event.modalities, event.face, event.faces) == ("ok", ("speech",), None, ())
    assert event.speech.age_ms == pytest.approx(1600 - 1315, abs=1)


@pytest.mark.parametrize(
    ("camera", "microphone", "state"),
    [
        ("ok", "ok", "no_face"), ("ok", "absent", "no_face"), ("ok", "lost", "no_face"),
        ("absent", "ok", "no_speech"), ("lost", "ok", "no_speech"), ("muted", "ok", "no_speech"),
        ("absent", "absent", "no_signal"), ("lost", "lost", "no_signal"), ("lost", "absent", "no_signal"),
        ("absent", "muted", "no_signal"),
    ],
)  # fmt: skip
def test_without_usable_input_the_state_gives_the_reason_and_the_label_is_null(tiny_bundle, camera, microphone, state):
    event = tick(make_pipeline(tiny_bundle), 1.0, {"camera": camera, "microphone": microphone})
    assert event.state == state
    assert event.label is event.confidence is event.probabilities is None
    assert event.modalities == ()


def test_a_branch_with_unusable_input_abstains_but_is_published(tmp_path: Path):
    pipeline = make_pipeline(write_tiny_bundle(tmp_path / "bundle", face=-6.0))
    show_faces(pipeline, 0.2, start_ns=round(1.4 * NS_PER_S))
    speak(pipeline, 1.6)
    event = tick(pipeline, 1.6)
    assert event.modalities == ("speech",)
    assert event.face is not None
    assert event.face.usable < 0.01
    alone = tick(pipeline, 1.6, CAMERA)
    assert alone.modalities == ("speech",)  # still fresh


def test_two_unusable_branches_give_no_label(tmp_path: Path):
    pipeline = make_pipeline(write_tiny_bundle(tmp_path / "bundle", face=-6.0, speech=-6.0))
    show_faces(pipeline, 1.6)
    speak(pipeline, 1.6)
    event = tick(pipeline, 1.6)
    assert (event.state, event.label) == ("no_face", None)


def test_stale_outputs_are_not_used(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)  # staleness limits: face 0.5 s, voice 1.5 s
    show_faces(pipeline, 1.6)
    speak(pipeline, 1.6)
    last_face_s, last_voice_s = 23 / 15, 1.315
    assert set(tick(pipeline, last_face_s + 0.49).modalities) == {"face", "speech"}
    event = tick(pipeline, last_face_s + 0.51)
    assert event.modalities == ("speech",)
    assert event.face is None
    assert tick(pipeline, last_voice_s + 1.49).modalities == ("speech",)
    late = tick(pipeline, last_voice_s + 1.51)
    assert (late.modalities, late.state, late.faces) == ((), "no_face", ())


def test_a_face_that_left_is_not_classified_again(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    show_faces(pipeline, 1.0)
    read = pipeline.counters.faces_read
    for frame in frames((empty_frame(i) for i in range(15)), start_ns=NS_PER_S):
        pipeline.process_frame(frame)
        pipeline.search_new_faces(frame)
    assert pipeline.counters.faces_read == read
    assert tick(pipeline, 2.0).state == "no_face"


@settings(max_examples=15)
@given(fps=st.floats(2, 70), rate_hz=st.floats(1, 30))
def test_frames_above_the_face_rate_are_skipped_and_counted(tiny_bundle: Path, fps: float, rate_hz: float):
    pipeline = make_pipeline(tiny_bundle, Config(face=FaceConfig(rate_hz=rate_hz)))
    count = 40
    for frame in frames([np.zeros((10, 10), np.uint8)] * count, fps):
        pipeline.process_frame(frame)
        pipeline.search_new_faces(frame)
    counters = pipeline.counters
    assert counters.frames_seen == count == counters.frames_tracked + counters.frames_skipped_rate
    seconds = (count - 1) / fps
    assert counters.frames_tracked <= seconds * rate_hz + 2
    assert counters.frames_tracked >= min(fps, rate_hz) * seconds * 0.6


def test_the_chunking_of_sound_does_not_matter(tiny_bundle: Path):
    answers = []
    for block in (160, 320, 4096, 40_000):
        pipeline = make_pipeline(tiny_bundle)
        speak(pipeline, 2.5, block=block)
        answers.append((to_json(tick(pipeline, 2.5)), pipeline.counters.windows_read, pipeline.counters.samples_heard))
    assert len(set(answers)) == 1
    assert answers[0][1:] == (5, 40_000)  # every 0.3 s, while the window holds less than 2 s of voice


def test_a_gap_in_the_sound_starts_a_new_signal(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    speak(pipeline, 0.9)
    speak(pipeline, 0.9, start_ns=3 * NS_PER_S)
    assert pipeline.counters.sound_gaps == 1
    assert pipeline.counters.windows_read == 0  # 0.9 s twice are not 1.8 s
    speak(pipeline, 0.5, start_ns=round(3.9 * NS_PER_S))
    assert pipeline.counters.sound_gaps == 1
    assert pipeline.counters.windows_read == 2


def test_jitter_of_block_times_is_not_a_gap(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    for index, block in enumerate(split_into_blocks(voice(1.6), [320] * 79)):
        jitter = (index % 5) * 4 * NS_PER_MS
        pipeline.process_audio(AudioBlock(block.samples, block.capture_time_ns + jitter))
    assert pipeline.counters.sound_gaps == 0
    assert pipeline.counters.windows_read == 2


def test_reset_restarts_and_a_missing_reset_shows(tiny_bundle: Path):
    def run(pipeline: Pipeline) -> list[str]:
        show_faces(pipeline, 1.5)
        speak(pipeline, 1.5)
        return [to_json(pipeline.tick(round(t * NS_PER_S), DEVICES_OK)) for t in (1.4, 1.6)]

    pipeline = make_pipeline(tiny_bundle)
    first = run(pipeline)
    forgotten = run(pipeline)
    assert forgotten != first
    pipeline.reset()
    assert pipeline.counters.events == 0
    assert run(pipeline) == first


def test_after_reset_the_pipeline_behaves_like_a_new_one(tiny_bundle: Path):
    """The second stream follows without a gap or pause, which would reset the stages."""

    def second_stream(pipeline: Pipeline) -> list[dict]:
        for piece in split_into_blocks(voice(1.2, level=0.05), [320] * 60, 2 * NS_PER_S):
            pipeline.process_audio(piece)
        for frame in frames((face_frame(i + 40) for i in range(18)), start_ns=2 * NS_PER_S):
            pipeline.process_frame(frame)
        pipeline.search_new_faces(frame)
        return [to_document(pipeline.tick(round(t * NS_PER_S), DEVICES_OK))["data"] for t in (2.15, 2.25, 3.1, 3.2)]

    pipeline = make_pipeline(tiny_bundle)
    show_faces(pipeline, 2.0)
    speak(pipeline, 2.0)
    tick(pipeline, 2.0)
    pipeline.reset()
    assert second_stream(pipeline) == second_stream(make_pipeline(tiny_bundle))


def test_merge_calm_adds_calm_to_neutral(tiny_bundle: Path):
    events = []
    for merge in (False, True):
        pipeline = make_pipeline(tiny_bundle, Config(labels=LabelsConfig(merge_calm=merge)))
        speak(pipeline, 1.6)
        events.append(tick(pipeline, 1.6))
    apart, merged = events
    assert "calm" not in merged.probabilities
    assert "calm" not in merged.speech.probabilities
    for whole, folded in (
        (apart.probabilities, merged.probabilities),
        (apart.speech.probabilities, merged.speech.probabilities),
    ):
        assert folded["neutral"] == pytest.approx(whole["neutral"] + whole["calm"], abs=1e-6)
        assert sum(folded.values()) == pytest.approx(1, abs=1e-5)
        assert folded["angry"] == whole["angry"]


@pytest.mark.parametrize("method", ["feature", "weighted", "voting"])
def test_every_fusion_method_gives_valid_events(tiny_bundle: Path, method: str):
    pipeline = make_pipeline(tiny_bundle, Config(fusion=FusionConfig(method=method)))
    show_faces(pipeline, 1.6)
    speak(pipeline, 1.6)
    assert len(tick(pipeline, 1.6).modalities) == 2


def test_a_live_event_carries_its_latency(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    show_faces(pipeline, 1.0)
    last_ns = 14 * NS_PER_S // 15
    event = pipeline.tick(NS_PER_S, CAMERA, lambda: NS_PER_S + 3 * NS_PER_MS)
    assert event.latency_ms == pytest.approx((NS_PER_S + 3 * NS_PER_MS - last_ns) / NS_PER_MS, abs=0.01)
    assert pipeline.tick(10 * NS_PER_S, CAMERA, lambda: 10 * NS_PER_S).latency_ms is None


def test_a_change_of_frame_size_is_accepted(tiny_bundle: Path):
    pipeline = make_pipeline(tiny_bundle)
    show_faces(pipeline, 1.0)
    for index in range(15):
        pipeline.process_frame(VideoFrame(face_frame(index, 80, 60), NS_PER_S + index * NS_PER_S // 15, index))
    tick(pipeline, 2.0)


def test_a_precision_that_the_bundle_lacks_is_rejected_at_the_start(tiny_bundle: Path):
    with pytest.raises(BundleError, match="not int8"):
        make_pipeline(tiny_bundle, parse({"inference": {"precision": "int8"}}, "x"))


def test_hysteresis_keeps_the_label_and_the_confidence_is_that_of_the_label(tiny_bundle: Path):
    config = Config()
    config = dataclasses.replace(
        config, smoothing=dataclasses.replace(config.smoothing, switch_margin=0.5, time_constant_s=0.0)
    )
    pipeline = make_pipeline(tiny_bundle, config)
    show_faces(pipeline, 1.0)
    first = tick(pipeline, 1.0, CAMERA)
    show_faces(pipeline, 1.0, start_ns=NS_PER_S)
    second = tick(pipeline, 1.95, CAMERA)
    assert second.label == first.label
    assert second.confidence == second.probabilities[second.label]


def test_a_face_that_the_branch_rejects_is_soon_dropped(tmp_path: Path):
    pipeline = make_pipeline(write_tiny_bundle(tmp_path / "bundle", face=-6.0))
    show_faces(pipeline, 1.6)
    event = tick(pipeline, 1.6)
    assert event.state == "no_face"
    assert event.faces == ()
    assert pipeline.counters.faces_read == 3


def test_a_low_quality_face_is_not_classified_and_is_counted(tiny_bundle):
    pipeline = make_pipeline(tiny_bundle, Config(face=FaceConfig(min_quality=0.9)))
    dim = [cv2.convertScaleAbs(cv2.GaussianBlur(face_frame(i), (0, 0), 3), alpha=0.4, beta=60) for i in range(20)]
    for frame in frames(dim):
        pipeline.process_frame(frame)
        pipeline.search_new_faces(frame)
    counters = pipeline.counters
    assert counters.faces_unfit > 10
    assert counters.faces_read == 0
    event = tick(pipeline, 19 / 15)
    assert event.state == "no_face"
    assert len(event.faces) == 1  # it is tracked, and its quality shows why it is not classified


def test_boxes_are_published_in_pixels_of_the_captured_frame(tiny_bundle):
    whole, shrunk = make_pipeline(tiny_bundle), make_pipeline(tiny_bundle)
    for frame in frames(face_frame(i) for i in range(10)):
        whole.process_frame(frame)
        shrunk.process_frame(dataclasses.replace(frame, reduction=4))
    (face,), (large,) = tick(whole, 0.6).faces, tick(shrunk, 0.6).faces
    assert large.box_xywh == tuple(4 * n for n in face.box_xywh)


def test_the_level_in_a_status_event_is_a_finite_number(tiny_bundle):
    pipeline = make_pipeline(tiny_bundle)
    json.dumps(pipeline.level_dbfs)
    speak(pipeline, 1.5)
    assert json.loads(json.dumps(pipeline.level_dbfs)) < 0
