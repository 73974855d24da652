"""Face tracker: detects, confirms, holds and drops faces; accepts any frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moodring.capture.media import VideoFile
from moodring.clock import NS_PER_S
from moodring.features.face import track as track_module
from moodring.features.face.crop import crop_face
from moodring.features.face.geometry import Box
from moodring.features.face.haar import Detection, FaceDetector, plan_scan
from moodring.features.face.search import (
    EARLY_STOP_NEIGHBOURS,
    NEW_SCENE_SLICES,
    RESCAN_SLICES,
    RESCAN_SLICES_WHILE_TRACKING,
    FaceSearch,
)
from moodring.features.face.tracker import QUALITY_INTERVAL_NS, HaarTracker, TrackerSettings
from moodring.features.spec import FaceSpec
from moodring.types import Face, VideoFrame
from tests.support.signals import empty_frame, face_frame, frames


def run_tracker(tracker: HaarTracker, images, fps: float = 15.0, start_ns: int = 0) -> list[tuple[Face, ...]]:
    return [tracker.update(frame) for frame in frames(images, fps, start_ns)]


def face_frames(count: int) -> list[np.ndarray]:
    return [face_frame(i) for i in range(count)]


def empty_frames(count: int) -> list[np.ndarray]:
    return [empty_frame(i) for i in range(count)]


def test_face_appears_once_confirmed_and_keeps_its_id():
    """With many windows in both cascades, a new face counts as at least three hits, and as two hits in each later frame."""
    outputs = run_tracker(HaarTracker(TrackerSettings(confirm_hits=7)), face_frames(30))
    assert [len(faces) for faces in outputs[:2]] == [0, 0]
    assert all(len(faces) == 1 for faces in outputs[3:])
    assert {face.id for faces in outputs for face in faces} == {1}


def test_clear_face_appears_at_once_but_is_not_held_after_one_frame():
    outputs = run_tracker(HaarTracker(), [face_frame(0), *empty_frames(5)])
    assert [len(faces) for faces in outputs[:1]] == [1]
    assert not any(outputs[2:])


@pytest.mark.parametrize("height", [110, 160, 220])
def test_face_is_detected_in_the_first_frames_of_a_new_scene(height: int):
    """Large faces are detected in the first frame after a cut, smaller ones at the latest in the third."""
    head = cv2.resize(face_frame(0), (height * 4 // 3, height), interpolation=cv2.INTER_AREA)
    dark, scene = np.full((360, 640), 20, np.uint8), np.full((360, 640), 120, np.uint8)
    scene[130 : 130 + height, 300 : 300 + head.shape[1]] = head
    outputs = run_tracker(HaarTracker(), [*[dark] * 20, *[scene] * 5])
    assert not any(outputs[:20])
    assert outputs[20 if height > 180 else 22]


def test_new_scene_is_scanned_by_both_cascades_with_bounded_cost_per_frame(monkeypatch):
    scans: list[list[bool]] = []  # for each frame and slice: whether the check cascade is used
    monkeypatch.setattr(FaceDetector, "scan", lambda *arguments: scans[-1].append(arguments[3]) or [])
    tracker, total = HaarTracker(TrackerSettings(rescan_s=60.0)), len(plan_scan((360, 640), 0.12 * 360))
    for frame in frames([np.full((360, 640), 120, np.uint8)] * 12):
        scans.append([])
        tracker.update(frame)
    assert max(len(slices) for slices in scans) <= NEW_SCENE_SLICES + RESCAN_SLICES  # plus a periodic rescan
    assert sum(not use_check_cascade for slices in scans for use_check_cascade in slices) >= total
    assert sum(use_check_cascade for slices in scans for use_check_cascade in slices) >= total


def test_likely_face_ends_the_search_of_a_frame_and_tracked_faces_are_masked(monkeypatch):
    scans: list[list[tuple[int, int]]] = []  # for each frame and slice: number of known faces, most windows of a detection
    scan = FaceDetector.scan

    def recorded(self, grey, scan_slice, use_check_cascade, known):
        detections = scan(self, grey, scan_slice, use_check_cascade, known)
        scans[-1].append((len(known), max((detection.neighbours for detection in detections), default=0)))
        return detections

    monkeypatch.setattr(FaceDetector, "scan", recorded)
    tracker = HaarTracker()
    for frame in frames(face_frames(40)):
        scans.append([])
        tracker.update(frame)
    first, *later = scans
    assert len(first) < NEW_SCENE_SLICES
    assert first[-1][1] >= EARLY_STOP_NEIGHBOURS
    assert all(neighbours < EARLY_STOP_NEIGHBOURS for _, neighbours in first[:-1])
    assert sum(len(slices) for slices in later) >= 2 * len(plan_scan((240, 320), 0.12 * 240))
    assert all(entry == (1, 0) for slices in later for entry in slices)


def test_search_for_new_faces_follows_the_output_of_known_ones(monkeypatch):
    scans = 0
    scan = FaceDetector.scan

    def counted(*arguments):
        nonlocal scans
        scans += 1
        return scan(*arguments)

    monkeypatch.setattr(FaceDetector, "scan", counted)
    tracker, later = HaarTracker(TrackerSettings(rescan_s=0.1)), 0
    for index, frame in enumerate(frames(face_frames(12))):
        before = scans
        faces = tracker.track_faces(frame)
        assert len(faces) == 1
        assert (scans > before) == (index == 0)  # no face is known in the first frame
        before = scans
        tracker.search_new_faces(frame)
        later += scans - before
        tracker.search_new_faces(frame)
        assert scans - before <= RESCAN_SLICES_WHILE_TRACKING  # each frame is searched once
    assert later > 12


def test_image_quality_is_evaluated_at_intervals_and_pose_in_every_frame(monkeypatch):
    evaluated = []
    monkeypatch.setattr(track_module, "face_image_quality", lambda _grey, box: evaluated.append(box) or 0.8)
    monkeypatch.setattr(track_module, "frontal_pose_score", lambda neighbours: neighbours)
    settings = TrackerSettings(rescan_s=60.0)  # searches are rarer than QUALITY_INTERVAL_NS
    qualities = [faces[0].quality for faces in run_tracker(HaarTracker(settings), face_frames(60), fps=15.0) if faces]
    assert len(qualities) / 15 / (QUALITY_INTERVAL_NS / NS_PER_S) <= len(evaluated) < len(qualities) / 3
    assert len(set(qualities)) > len(evaluated)


def test_image_quality_is_evaluated_after_the_output_of_known_faces(monkeypatch):
    evaluated = []
    monkeypatch.setattr(track_module, "face_image_quality", lambda _grey, box: evaluated.append(box) or 0.8)
    tracker = HaarTracker()
    for index, frame in enumerate(frames(face_frames(30))):
        before = len(evaluated)
        tracker.track_faces(frame)
        assert len(evaluated) == before or index == 0
        tracker.search_new_faces(frame)
    assert len(evaluated) > 2


def test_image_quality_of_a_reappearing_face_is_evaluated_before_its_output(monkeypatch):
    image_quality = 0.9
    monkeypatch.setattr(track_module, "face_image_quality", lambda _grey, _box: image_quality)
    monkeypatch.setattr(track_module, "frontal_pose_score", lambda _neighbours: 1.0)
    tracker, images = HaarTracker(), [*face_frames(20), *empty_frames(3), *face_frames(5)]
    qualities = []
    for index, frame in enumerate(frames(images)):
        image_quality = 0.9 if index < 20 else 0.3  # the reappearing face is blurred
        qualities.append([face.quality for face in tracker.track_faces(frame) if not face.age_ns])
        tracker.search_new_faces(frame)
    assert qualities[19] == [0.9]
    assert qualities[20:23] == [[], [], []]
    assert qualities[23] == [0.3]


def test_quality_does_not_depend_on_the_absolute_time():
    qualities = [
        [face.quality for faces in run_tracker(HaarTracker(), face_frames(30), start_ns=start_ns) for face in faces]
        for start_ns in (0, 10**15)
    ]
    assert qualities[0] == qualities[1]


def test_only_the_last_tracked_frame_is_searched(monkeypatch):
    tracker = HaarTracker(TrackerSettings(rescan_s=0.1))
    *_, tracked, other = frames(face_frames(12))
    for frame in frames(face_frames(10)):
        tracker.update(frame)
    tracker.track_faces(tracked)
    searched: list[object] = []
    monkeypatch.setattr(FaceSearch, "propose", lambda *arguments: searched.append(arguments) or [])
    tracker.search_new_faces(other)
    assert not searched
    tracker.search_new_faces(tracked)
    assert searched


def test_box_covers_the_face():
    *_, (face,) = run_tracker(HaarTracker(), face_frames(20))
    x, y, w, h = face.box_xywh
    assert abs(x + w / 2 - 160) < 40
    assert abs(y + h / 2 - 120) < 40
    assert 60 < w == h < 200
    assert 0.5 < face.quality <= 1.0


def test_no_face_gives_no_output():
    assert not any(run_tracker(HaarTracker(), empty_frames(30)))


def test_face_is_held_for_the_hold_time():
    tracker = HaarTracker(TrackerSettings(hold_s=0.5))
    run_tracker(tracker, face_frames(10))
    missed = run_tracker(tracker, empty_frames(15), start_ns=NS_PER_S)
    held = [len(faces) for faces in missed]
    last_seen_ns = 9 * NS_PER_S / 15
    allowed = [NS_PER_S + i * NS_PER_S / 15 - last_seen_ns <= 0.5 * NS_PER_S for i in range(15)]
    assert held == [int(a) for a in allowed]
    assert held[0] == 1
    assert held[-1] == 0


def test_id_is_kept_within_the_hold_time_and_new_after_it():
    tracker = HaarTracker()
    outputs = run_tracker(tracker, [*face_frames(10), *empty_frames(4), *face_frames(10), *empty_frames(20), *face_frames(20)])
    assert [face.id for face in outputs[23]] == [1]
    assert [face.id for face in outputs[-1]] == [2]


def test_unconfirmed_face_is_not_held():
    tracker = HaarTracker(TrackerSettings(confirm_hits=6))
    outputs = run_tracker(tracker, [face_frame(0), *empty_frames(2), face_frame(1), *empty_frames(2), face_frame(2)])
    assert not any(outputs)


def test_two_faces_are_sorted_by_size_and_have_different_ids():
    def pair(i: int) -> np.ndarray:
        small = cv2.copyMakeBorder(face_frame(i, 240, 180), 30, 30, 40, 40, cv2.BORDER_REPLICATE)
        return np.hstack([small, face_frame(i)])

    outputs = run_tracker(HaarTracker(), [pair(i) for i in range(30)])
    first, second = outputs[-1]
    assert first.box_xywh[2] > second.box_xywh[2]
    assert first.id != second.id


@pytest.mark.parametrize("speed", [5, 8, 12, 16])
def test_one_track_is_left_after_two_faces_cross_and_one_disappears(speed: int):
    head = face_frame(0)[40:220, 80:240]

    def crossing(i: int) -> np.ndarray:
        scene = np.full((240, 480), 120, np.uint8)
        scene[30:210, 300:460] = head
        if speed * i <= 320:
            scene[30:210, speed * i : speed * i + 160] = head
        return scene

    outputs = run_tracker(HaarTracker(), [crossing(i) for i in range(320 // speed + 20)])
    assert len(outputs[6]) == 2
    assert len(outputs[-1]) == 1


def test_primary_face_does_not_alternate_between_similar_faces():
    head = face_frame(0)[40:220, 80:240]

    def pair(i: int) -> np.ndarray:
        scene = np.full((240, 480), 120, np.uint8)
        for x, wobble in ((40, i % 3), (270, (i + 1) % 4)):  # alternately, one is a few pixels larger
            larger = cv2.resize(head, (160 + 2 * wobble, 180 + 2 * wobble))
            scene[30 : 30 + larger.shape[0], x : x + larger.shape[1]] = larger
        return scene

    outputs = run_tracker(HaarTracker(), [pair(i) for i in range(40)])
    assert all(len(faces) == 2 for faces in outputs[5:])
    assert len({faces[0].id for faces in outputs[5:]}) == 1


def test_much_larger_face_becomes_primary():
    head = face_frame(0)[40:220, 80:240]

    def approaching(i: int) -> np.ndarray:
        scene = np.full((360, 640), 120, np.uint8)
        scene[30:210, 20:180] = head
        larger = cv2.resize(head, None, fx=0.8 + 0.02 * i, fy=0.8 + 0.02 * i)
        scene[10 : 10 + larger.shape[0], 300 : 300 + larger.shape[1]] = larger
        return scene

    outputs = run_tracker(HaarTracker(), [approaching(i) for i in range(50)])
    (first, *_), (last, *_) = outputs[5], outputs[-1]
    assert first.box_xywh[0] < 200 < last.box_xywh[0]


def test_reset_drops_all_tracks():
    tracker = HaarTracker()
    first = run_tracker(tracker, face_frames(6))
    tracker.reset()
    assert run_tracker(tracker, face_frames(6)) == first
    assert run_tracker(tracker, face_frames(6), start_ns=NS_PER_S) != first


def test_same_frames_give_the_same_faces():
    images = [*face_frames(12), *empty_frames(3), *face_frames(5)]
    assert run_tracker(HaarTracker(), images) == run_tracker(HaarTracker(), images)


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (500, 2), (23, 23), (24, 24), (25, 33), (241, 319)])
def test_frames_of_any_size_are_accepted(shape: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert run_tracker(HaarTracker(), [image] * 5)[-1] == ()


def test_change_of_frame_size_restarts_the_tracker():
    tracker = HaarTracker()
    assert run_tracker(tracker, [face_frame(i, 640, 480) for i in range(8)])[-1]
    small = run_tracker(tracker, [face_frame(i, 160, 120) for i in range(8)], start_ns=8 * NS_PER_S // 15)
    for faces in small:
        for face in faces:
            crop_face(empty_frame(0, 160, 120), face.box_xywh, FaceSpec())  # raises ValueError on a box outside the frame
    assert small[-1][0].box_xywh[2] < 120
    tiny = run_tracker(tracker, [face_frame(i, 32, 24) for i in range(8)], start_ns=16 * NS_PER_S // 15)
    assert not any(tiny)


def test_noise_frames_are_accepted():
    rng = np.random.default_rng(0)
    run_tracker(HaarTracker(), [*face_frames(5), *(rng.integers(0, 256, (240, 320), np.uint8) for _ in range(10))])


@pytest.mark.data
@pytest.mark.parametrize("name", ["pyfeat_single_face.mp4", "fer_woman2.mp4"])
def test_real_face_is_tracked(data_path, name: str):
    tracker = HaarTracker()
    with VideoFile(str(data_path(f"video/{name}"))) as video:
        counts = [len(tracker.update(frame)) for frame, _ in zip(video, range(60), strict=False)]
    assert np.mean(np.array(counts) > 0) > 0.7


@pytest.mark.data
def test_recording_without_faces_gives_none(data_path):
    tracker = HaarTracker()
    with VideoFile(str(data_path("video/pyfeat_no_face.mp4"))) as video:
        counts = [len(tracker.update(frame)) for frame, _ in zip(video, range(60), strict=False)]
    assert np.mean(np.array(counts) > 0) < 0.1


def test_frame_is_not_modified():
    image = face_frame(0)
    kept = image.copy()
    HaarTracker().update(VideoFrame(image, 0, 0))
    np.testing.assert_array_equal(image, kept)


def pair_of_heads(first_x: int, second_x: int | None = None) -> np.ndarray:
    """Return the astronaut's head once or twice on uniform grey, uint8 [240, 640]."""
    head = face_frame(0)[40:220, 80:240]
    scene = np.full((240, 640), 120, np.uint8)
    for x in (first_x, second_x):
        if x is not None:
            left, right = max(0, x), min(640, x + 160)
            scene[30:210, left:right] = head[:, left - x : right - x]
    return scene


def test_two_moving_faces_keep_their_ids():
    sway = [round(60 * np.sin(i / 6)) for i in range(60)]
    outputs = run_tracker(HaarTracker(), [pair_of_heads(90 + x, 380 - x) for x in sway])
    by_side = [{face.id: face.box_xywh[0] < 320 for face in faces} for faces in outputs[6:]]
    assert all(len(sides) == 2 for sides in by_side)
    assert all(sides == by_side[0] for sides in by_side)


def test_face_that_moves_during_a_short_miss_keeps_its_id():
    tracker = HaarTracker()
    scenes = [
        *(pair_of_heads(100) for _ in range(10)),
        *(pair_of_heads(900) for _ in range(3)),
        *(pair_of_heads(190) for _ in range(12)),
    ]
    outputs = run_tracker(tracker, scenes)
    assert {face.id for faces in outputs for face in faces} == {1}
    assert not outputs[-1][0].held
    assert abs(outputs[-1][0].box_xywh[0] - (outputs[8][0].box_xywh[0] + 90)) < 15


def test_box_does_not_lag_behind_constant_velocity():
    speed = 8  # pixels a frame
    outputs = run_tracker(HaarTracker(), [pair_of_heads(20 + speed * i) for i in range(50)])
    still = run_tracker(HaarTracker(), [pair_of_heads(20)] * 10)[-1][0].box_xywh
    lag = [(20 + speed * i) - (outputs[i][0].box_xywh[0] - (still[0] - 20)) for i in range(20, 50)]
    assert np.abs(np.median(lag)) < speed / 2


def test_rejected_face_is_dropped_and_not_searched_for_two_seconds():
    tracker = HaarTracker()
    outputs = []
    for frame in frames(face_frames(60)):
        outputs.append(tracker.update(frame))
        for face in outputs[-1]:
            tracker.update_confidence(face.id, 0.05)
    shown = [bool(faces) for faces in outputs]
    assert sum(shown[:30]) == 3
    assert any(shown[30:])  # after two seconds it is searched for again and gets a new id
    assert {face.id for faces in outputs for face in faces} == {1, 2}


def test_short_occlusion_does_not_reject_a_face():
    tracker = HaarTracker()
    for index, frame in enumerate(frames(face_frames(40))):
        for face in tracker.update(frame):
            tracker.update_confidence(face.id, 0.1 if 25 <= index < 30 else 0.95)
    assert [face.id for face in tracker.update(next(frames([face_frame(40)], start_ns=40 * NS_PER_S // 15)))] == [1]


def test_primary_face_is_the_central_one_if_configured():
    large = cv2.resize(pair_of_heads(0)[:, :200], None, fx=1.2, fy=1.2)[:240]
    scene = pair_of_heads(330)
    scene[: large.shape[0], : large.shape[1]] = large
    for primary, leftmost in (("largest", True), ("central", False)):
        faces = run_tracker(HaarTracker(TrackerSettings(primary=primary)), [scene] * 12)[-1]
        assert len(faces) == 2
        assert (faces[0].box_xywh[0] < 200) == leftmost


def test_still_scene_is_searched_less_than_a_moving_one(monkeypatch):
    searched: list[int] = []
    scan = FaceDetector.scan
    monkeypatch.setattr(FaceDetector, "scan", lambda self, *arguments: searched.append(0) or scan(self, *arguments))
    rng = np.random.default_rng(0)
    wall = [np.clip(empty_frame(0) + rng.normal(0, 2, (240, 320)), 0, 255).astype(np.uint8) for _ in range(60)]
    at_rest, moving = [], []
    for counts, images in ((at_rest, wall), (moving, empty_frames(60))):
        tracker = HaarTracker()
        for frame in frames(images):
            tracker.update(frame)
            counts.append(len(searched))
            searched.clear()
    plan = plan_scan((240, 320), 0.12 * 240)
    assert sum(at_rest) >= 2 * len(plan)  # both cascades scan a new scene
    assert sum(at_rest[30:]) < sum(moving[30:]) / 3
    assert sum(at_rest[30:]) >= len(plan) * 0.9  # still one full scan in two seconds


def test_eye_is_not_tracked_as_a_face():
    scene = cv2.resize(face_frame(0), (1280, 960), interpolation=cv2.INTER_CUBIC)
    outputs = run_tracker(HaarTracker(TrackerSettings(smallest_face=0.1)), [scene] * 20)
    assert all(len(faces) <= 1 for faces in outputs)
    assert outputs[-1][0].box_xywh[2] > 300


def test_face_in_profile_keeps_its_id_with_low_quality(monkeypatch):
    """Replace the detections: only the profile cascade detects the face. No freely licensed recording shows this case."""
    tracker = HaarTracker()
    run_tracker(tracker, face_frames(10))
    box = tracker.update(next(frames([face_frame(10)], start_ns=10 * NS_PER_S // 15)))[0].box_xywh
    centre = Box(box[0] + box[2] / 2, box[1] + box[3] / 2, box[2])
    monkeypatch.setattr(FaceDetector, "search", lambda *_: [])
    monkeypatch.setattr(FaceDetector, "search_profile", lambda *_: [Detection(centre, 0)])
    turned = run_tracker(tracker, face_frames(20), start_ns=11 * NS_PER_S // 15)
    assert {face.id for faces in turned for face in faces} == {1}
    assert not any(face.held for faces in turned for face in faces)
    assert turned[-1][0].quality < 0.1
