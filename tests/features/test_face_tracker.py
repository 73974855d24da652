"""The tracker: finds, confirms, holds and forgets faces; reads any picture without failing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moodring.capture.media import VideoFile
from moodring.clock import NS_PER_S
from moodring.features.face import tracker as face_tracker
from moodring.features.face.crop import crop_face
from moodring.features.face.haar import Box, Detection, FaceDetector, plan_scan
from moodring.features.face.search import EARLY_STOP_NEIGHBOURS, NEW_SCENE_SLICES, RESCAN_SLICES, RESCAN_SLICES_WHILE_TRACKING
from moodring.features.face.tracker import QUALITY_INTERVAL_NS, HaarTracker, TrackerSettings
from moodring.features.spec import FaceSpec
from moodring.types import Face, VideoFrame
from tests.support.signals import empty_frame, face_frame, frames


def track(tracker: HaarTracker, pictures, fps: float = 15.0, start_ns: int = 0) -> list[tuple[Face, ...]]:
    return [tracker.update(frame) for frame in frames(pictures, fps, start_ns)]


def faces_of(count: int) -> list[np.ndarray]:
    return [face_frame(i) for i in range(count)]


def empties(count: int) -> list[np.ndarray]:
    return [empty_frame(i) for i in range(count)]


def test_a_face_speaks_once_it_is_confirmed_and_keeps_its_id():
    """One that both cascades are sure of counts as found three times and more at once, and then as found twice a frame."""
    seen = track(HaarTracker(TrackerSettings(confirm_hits=7)), faces_of(30))
    assert [len(faces) for faces in seen[:2]] == [0, 0]
    assert all(len(faces) == 1 for faces in seen[3:])
    assert {face.id for faces in seen for face in faces} == {1}


def test_a_face_that_both_cascades_are_sure_of_speaks_at_once_but_is_not_held_on_that_alone():
    seen = track(HaarTracker(), [face_frame(0), *empties(5)])
    assert [len(faces) for faces in seen[:1]] == [1]
    assert not any(seen[2:])


@pytest.mark.parametrize("height", [110, 160, 220])
def test_a_face_is_seen_in_the_first_frames_of_a_new_scene(height: int):
    """Large faces in the first frame after a cut, smaller ones in the next two."""
    head = cv2.resize(face_frame(0), (height * 4 // 3, height), interpolation=cv2.INTER_AREA)
    dark, scene = np.full((360, 640), 20, np.uint8), np.full((360, 640), 120, np.uint8)
    scene[130 : 130 + height, 300 : 300 + head.shape[1]] = head
    seen = track(HaarTracker(), [*[dark] * 20, *[scene] * 5])
    assert not any(seen[:20])
    assert seen[20 if height > 180 else 22]


def test_a_whole_new_scene_is_scanned_by_both_cascades_in_bounded_shares(monkeypatch):
    shares: list[list[bool]] = []
    monkeypatch.setattr(FaceDetector, "scan", lambda *asked: shares[-1].append(asked[3]) or [])
    tracker, total = HaarTracker(TrackerSettings(rescan_s=60.0)), len(plan_scan((360, 640), 0.12 * 360))
    for frame in frames([np.full((360, 640), 120, np.uint8)] * 12):
        shares.append([])
        tracker.update(frame)
    assert max(len(share) for share in shares) <= NEW_SCENE_SLICES + RESCAN_SLICES  # which are due now and then
    assert sum(not checking for share in shares for checking in share) >= total
    assert sum(checking for share in shares for checking in share) >= total


def test_a_frame_that_shows_a_likely_face_pays_for_no_further_search_and_a_followed_one_is_covered(monkeypatch):
    asked: list[list[tuple[int, int]]] = []  # of each slice of each frame: how many faces were known and found
    scan = FaceDetector.scan

    def watched(self, grey, part, checking, known):
        hits = scan(self, grey, part, checking, known)
        asked[-1].append((len(known), max((hit.neighbours for hit in hits), default=0)))
        return hits

    monkeypatch.setattr(FaceDetector, "scan", watched)
    tracker = HaarTracker()
    for frame in frames(faces_of(40)):
        asked.append([])
        tracker.update(frame)
    first, *later = asked
    assert len(first) < NEW_SCENE_SLICES
    assert first[-1][1] >= EARLY_STOP_NEIGHBOURS
    assert all(neighbours < EARLY_STOP_NEIGHBOURS for _, neighbours in first[:-1])
    assert sum(len(slices) for slices in later) >= 2 * len(plan_scan((240, 320), 0.12 * 240))
    assert all(part == (1, 0) for slices in later for part in slices)


def test_the_search_for_more_faces_waits_until_what_is_known_has_been_read(monkeypatch):
    scans = 0
    scan = FaceDetector.scan

    def watched(*arguments):
        nonlocal scans
        scans += 1
        return scan(*arguments)

    monkeypatch.setattr(FaceDetector, "scan", watched)
    tracker, later = HaarTracker(TrackerSettings(rescan_s=0.1)), 0
    for index, frame in enumerate(frames(faces_of(12))):
        before = scans
        faces = tracker.track_faces(frame)
        assert len(faces) == 1
        assert (scans > before) == (index == 0)  # nobody was known yet
        before = scans
        tracker.search_new_faces(frame)
        later += scans - before
        tracker.search_new_faces(frame)
        assert scans - before <= RESCAN_SLICES_WHILE_TRACKING  # once of each frame
    assert later > 12


def test_how_clear_a_face_is_is_judged_now_and_then_and_how_it_is_turned_always(monkeypatch):
    judged = []
    monkeypatch.setattr(face_tracker, "face_image_quality", lambda _grey, box: judged.append(box) or 0.8)
    monkeypatch.setattr(face_tracker, "frontal_pose_score", lambda neighbours: neighbours)
    seldom = TrackerSettings(rescan_s=60.0)  # with a search, or where that is too seldom by the clock
    seen = [faces[0].quality for faces in track(HaarTracker(seldom), faces_of(60), fps=15.0) if faces]
    assert len(seen) / 15 / (QUALITY_INTERVAL_NS / NS_PER_S) <= len(judged) < len(seen) / 3
    assert len(set(seen)) > len(judged)


def test_how_clear_a_face_is_is_judged_after_its_answer(monkeypatch):
    judged = []
    monkeypatch.setattr(face_tracker, "face_image_quality", lambda _grey, box: judged.append(box) or 0.8)
    tracker = HaarTracker()
    for index, frame in enumerate(frames(faces_of(30))):
        before = len(judged)
        tracker.track_faces(frame)
        assert len(judged) == before or index == 0
        tracker.search_new_faces(frame)
    assert len(judged) > 2


def test_a_face_that_comes_back_is_judged_before_it_is_answered(monkeypatch):
    image_quality = 0.9
    monkeypatch.setattr(face_tracker, "face_image_quality", lambda _grey, _box: image_quality)
    monkeypatch.setattr(face_tracker, "frontal_pose_score", lambda _neighbours: 1.0)
    tracker, pictures = HaarTracker(), [*faces_of(20), *empties(3), *faces_of(5)]
    answers = []
    for index, frame in enumerate(frames(pictures)):
        image_quality = 0.9 if index < 20 else 0.3  # what comes back is blurred
        answers.append([face.quality for face in tracker.track_faces(frame) if not face.age_ns])
        tracker.search_new_faces(frame)
    assert answers[19] == [0.9]
    assert answers[20:23] == [[], [], []]
    assert answers[23] == [0.3]


def test_what_is_said_of_a_face_does_not_depend_on_what_the_clock_shows():
    qualities = [
        [face.quality for faces in track(HaarTracker(), faces_of(30), start_ns=at) for face in faces] for at in (0, 10**15)
    ]
    assert qualities[0] == qualities[1]


def test_a_frame_that_was_not_followed_is_not_explored(monkeypatch):
    tracker = HaarTracker(TrackerSettings(rescan_s=0.1))
    *_, followed, other = frames(faces_of(12))
    for frame in frames(faces_of(10)):
        tracker.update(frame)
    tracker.track_faces(followed)
    monkeypatch.setattr(tracker, "search", lambda *_: pytest.fail("searched"))
    tracker.search_new_faces(other)


def test_the_box_lies_on_the_face():
    *_, (face,) = track(HaarTracker(), faces_of(20))
    x, y, w, h = face.box_xywh
    assert abs(x + w / 2 - 160) < 40
    assert abs(y + h / 2 - 120) < 40
    assert 60 < w == h < 200
    assert 0.5 < face.quality <= 1.0


def test_no_face_no_answer():
    assert not any(track(HaarTracker(), empties(30)))


def test_a_face_is_held_over_a_short_miss_and_no_longer():
    tracker = HaarTracker(TrackerSettings(hold_s=0.5))
    track(tracker, faces_of(10))
    missed = track(tracker, empties(15), start_ns=NS_PER_S)
    held = [len(faces) for faces in missed]
    last_seen_ns = 9 * NS_PER_S / 15
    allowed = [NS_PER_S + i * NS_PER_S / 15 - last_seen_ns <= 0.5 * NS_PER_S for i in range(15)]
    assert held == [int(a) for a in allowed]
    assert held[0] == 1
    assert held[-1] == 0


def test_a_face_that_comes_back_within_the_hold_keeps_its_id_and_later_gets_another():
    tracker = HaarTracker()
    seen = track(tracker, [*faces_of(10), *empties(4), *faces_of(10), *empties(20), *faces_of(20)])
    assert [face.id for face in seen[23]] == [1]
    assert [face.id for face in seen[-1]] == [2]


def test_an_unconfirmed_face_is_not_held():
    tracker = HaarTracker(TrackerSettings(confirm_hits=6))
    seen = track(tracker, [face_frame(0), *empties(2), face_frame(1), *empties(2), face_frame(2)])
    assert not any(seen)


def test_two_faces_come_largest_first_with_ids_of_their_own():
    def pair(i: int) -> np.ndarray:
        small = cv2.copyMakeBorder(face_frame(i, 240, 180), 30, 30, 40, 40, cv2.BORDER_REPLICATE)
        return np.hstack([small, face_frame(i)])

    seen = track(HaarTracker(), [pair(i) for i in range(30)])
    first, second = seen[-1]
    assert first.box_xywh[2] > second.box_xywh[2]
    assert first.id != second.id


@pytest.mark.parametrize("speed", [5, 8, 12, 16])
def test_when_two_cross_and_one_goes_one_is_left(speed: int):
    head = face_frame(0)[40:220, 80:240]

    def crossing(i: int) -> np.ndarray:
        scene = np.full((240, 480), 120, np.uint8)
        scene[30:210, 300:460] = head
        if speed * i <= 320:
            scene[30:210, speed * i : speed * i + 160] = head
        return scene

    seen = track(HaarTracker(), [crossing(i) for i in range(320 // speed + 20)])
    assert len(seen[6]) == 2
    assert len(seen[-1]) == 1


def test_of_two_alike_the_primary_stays_the_same():
    head = face_frame(0)[40:220, 80:240]

    def pair(i: int) -> np.ndarray:
        scene = np.full((240, 480), 120, np.uint8)
        for x, wobble in ((40, i % 3), (270, (i + 1) % 4)):  # a few pixels larger, now one, now the other
            larger = cv2.resize(head, (160 + 2 * wobble, 180 + 2 * wobble))
            scene[30 : 30 + larger.shape[0], x : x + larger.shape[1]] = larger
        return scene

    seen = track(HaarTracker(), [pair(i) for i in range(40)])
    assert all(len(faces) == 2 for faces in seen[5:])
    assert len({faces[0].id for faces in seen[5:]}) == 1


def test_a_face_that_is_much_larger_becomes_the_primary_one():
    head = face_frame(0)[40:220, 80:240]

    def approaching(i: int) -> np.ndarray:
        scene = np.full((360, 640), 120, np.uint8)
        scene[30:210, 20:180] = head
        larger = cv2.resize(head, None, fx=0.8 + 0.02 * i, fy=0.8 + 0.02 * i)
        scene[10 : 10 + larger.shape[0], 300 : 300 + larger.shape[1]] = larger
        return scene

    seen = track(HaarTracker(), [approaching(i) for i in range(50)])
    (first, *_), (last, *_) = seen[5], seen[-1]
    assert first.box_xywh[0] < 200 < last.box_xywh[0]


def test_reset_starts_anew_and_forgetting_it_shows():
    tracker = HaarTracker()
    first = track(tracker, faces_of(6))
    tracker.reset()
    assert track(tracker, faces_of(6)) == first
    assert track(tracker, faces_of(6), start_ns=NS_PER_S) != first


def test_same_frames_same_faces():
    pictures = [*faces_of(12), *empties(3), *faces_of(5)]
    assert track(HaarTracker(), pictures) == track(HaarTracker(), pictures)


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (500, 2), (23, 23), (24, 24), (25, 33), (241, 319)])
def test_pictures_of_any_size_are_read(shape: tuple[int, int]):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert track(HaarTracker(), [picture] * 5)[-1] == ()


def test_a_stream_that_changes_its_size_goes_on():
    tracker = HaarTracker()
    assert track(tracker, [face_frame(i, 640, 480) for i in range(8)])[-1]
    small = track(tracker, [face_frame(i, 160, 120) for i in range(8)], start_ns=8 * NS_PER_S // 15)
    for faces in small:
        for face in faces:
            crop_face(empty_frame(0, 160, 120), face.box_xywh, FaceSpec())  # refuses a box outside the picture
    assert small[-1][0].box_xywh[2] < 120
    tiny = track(tracker, [face_frame(i, 32, 24) for i in range(8)], start_ns=16 * NS_PER_S // 15)
    assert not any(tiny)


def test_a_picture_with_noise_in_it_is_no_reason_to_fail():
    rng = np.random.default_rng(0)
    track(HaarTracker(), [*faces_of(5), *(rng.integers(0, 256, (240, 320), np.uint8) for _ in range(10))])


@pytest.mark.data
@pytest.mark.parametrize("name", ["pyfeat_single_face.mp4", "fer_woman2.mp4"])
def test_a_real_face_is_followed(data_path, name: str):
    tracker = HaarTracker()
    with VideoFile(str(data_path(f"video/{name}"))) as video:
        seen = [len(tracker.update(frame)) for frame, _ in zip(video, range(60), strict=False)]
    assert np.mean(np.array(seen) > 0) > 0.7


@pytest.mark.data
def test_where_nobody_is_nobody_is_seen(data_path):
    tracker = HaarTracker()
    with VideoFile(str(data_path("video/pyfeat_no_face.mp4"))) as video:
        seen = [len(tracker.update(frame)) for frame, _ in zip(video, range(60), strict=False)]
    assert np.mean(np.array(seen) > 0) < 0.1


def test_a_frame_is_not_changed():
    picture = face_frame(0)
    kept = picture.copy()
    HaarTracker().update(VideoFrame(picture, 0, 0))
    np.testing.assert_array_equal(picture, kept)


def pair_of_heads(first_x: int, second_x: int | None = None) -> np.ndarray:
    """The astronaut's head once or twice before plain grey, uint8 [240, 640]."""
    head = face_frame(0)[40:220, 80:240]
    scene = np.full((240, 640), 120, np.uint8)
    for x in (first_x, second_x):
        if x is not None:
            left, right = max(0, x), min(640, x + 160)
            scene[30:210, left:right] = head[:, left - x : right - x]
    return scene


def test_two_people_keep_their_ids_while_both_move():
    sway = [round(60 * np.sin(i / 6)) for i in range(60)]
    seen = track(HaarTracker(), [pair_of_heads(90 + x, 380 - x) for x in sway])
    by_side = [{face.id: face.box_xywh[0] < 320 for face in faces} for faces in seen[6:]]
    assert all(len(sides) == 2 for sides in by_side)
    assert all(sides == by_side[0] for sides in by_side)


def test_a_face_that_jumps_while_it_was_lost_for_a_moment_keeps_its_id():
    tracker = HaarTracker()
    scenes = [
        *(pair_of_heads(100) for _ in range(10)),
        *(pair_of_heads(900) for _ in range(3)),
        *(pair_of_heads(190) for _ in range(12)),
    ]
    seen = track(tracker, scenes)
    assert {face.id for faces in seen for face in faces} == {1}
    assert not seen[-1][0].held
    assert abs(seen[-1][0].box_xywh[0] - (seen[8][0].box_xywh[0] + 90)) < 15


def test_a_box_does_not_lag_behind_a_steady_motion():
    speed = 8  # pixels a frame
    seen = track(HaarTracker(), [pair_of_heads(20 + speed * i) for i in range(50)])
    still = track(HaarTracker(), [pair_of_heads(20)] * 10)[-1][0].box_xywh
    behind = [(20 + speed * i) - (seen[i][0].box_xywh[0] - (still[0] - 20)) for i in range(20, 50)]
    assert np.abs(np.median(behind)) < speed / 2


def test_a_face_that_nobody_believes_in_is_closed_and_left_alone_for_a_while():
    tracker = HaarTracker()
    seen = []
    for frame in frames(faces_of(60)):
        seen.append(tracker.update(frame))
        for face in seen[-1]:
            tracker.update_confidence(face.id, 0.05)
    shown = [bool(faces) for faces in seen]
    assert sum(shown[:30]) == 3
    assert any(shown[30:])  # after two seconds it is looked at again, with a new id
    assert {face.id for faces in seen for face in faces} == {1, 2}


def test_a_hand_before_a_face_for_a_moment_closes_nothing():
    tracker = HaarTracker()
    for index, frame in enumerate(frames(faces_of(40))):
        for face in tracker.update(frame):
            tracker.update_confidence(face.id, 0.1 if 25 <= index < 30 else 0.95)
    assert [face.id for face in tracker.update(next(frames([face_frame(40)], start_ns=40 * NS_PER_S // 15)))] == [1]


def test_the_central_face_is_primary_where_that_is_wanted():
    large = cv2.resize(pair_of_heads(0)[:, :200], None, fx=1.2, fy=1.2)[:240]
    scene = pair_of_heads(330)
    scene[: large.shape[0], : large.shape[1]] = large
    for primary, leftmost in (("largest", True), ("central", False)):
        faces = track(HaarTracker(TrackerSettings(primary=primary)), [scene] * 12)[-1]
        assert len(faces) == 2
        assert (faces[0].box_xywh[0] < 200) == leftmost


def test_a_picture_in_which_nothing_moves_is_not_searched_over_and_over(monkeypatch):
    searched: list[int] = []
    scan = FaceDetector.scan
    monkeypatch.setattr(FaceDetector, "scan", lambda self, *asked: searched.append(0) or scan(self, *asked))
    rng = np.random.default_rng(0)
    wall = [np.clip(empty_frame(0) + rng.normal(0, 2, (240, 320)), 0, 255).astype(np.uint8) for _ in range(60)]
    at_rest, moving = [], []
    for counts, pictures in ((at_rest, wall), (moving, empties(60))):
        tracker = HaarTracker()
        for frame in frames(pictures):
            tracker.update(frame)
            counts.append(len(searched))
            searched.clear()
    plan = plan_scan((240, 320), 0.12 * 240)
    assert sum(at_rest) >= 2 * len(plan)  # a new scene is scanned by both cascades
    assert sum(at_rest[30:]) < sum(moving[30:]) / 3
    assert sum(at_rest[30:]) >= len(plan) * 0.9  # and even then once in two seconds


def test_an_eye_of_a_face_is_no_face():
    scene = cv2.resize(face_frame(0), (1280, 960), interpolation=cv2.INTER_CUBIC)
    seen = track(HaarTracker(TrackerSettings(smallest_face=0.1)), [scene] * 20)
    assert all(len(faces) <= 1 for faces in seen)
    assert seen[-1][0].box_xywh[2] > 300


def test_a_face_that_turns_aside_stays_the_same_face_but_is_hardly_fit_to_be_read(monkeypatch):
    """The profile cascade is the only one to see it: the frontal ones are made blind, for want of a free recording."""
    tracker = HaarTracker()
    track(tracker, faces_of(10))
    box = tracker.update(next(frames([face_frame(10)], start_ns=10 * NS_PER_S // 15)))[0].box_xywh
    centre = Box(box[0] + box[2] / 2, box[1] + box[3] / 2, box[2])
    monkeypatch.setattr(FaceDetector, "search", lambda *_: [])
    monkeypatch.setattr(FaceDetector, "search_profile", lambda *_: [Detection(centre, 0)])
    turned = track(tracker, faces_of(20), start_ns=11 * NS_PER_S // 15)
    assert {face.id for faces in turned for face in faces} == {1}
    assert not any(face.held for faces in turned for face in faces)
    assert turned[-1][0].quality < 0.1
