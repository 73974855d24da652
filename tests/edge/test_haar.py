"""The tracker: finds, confirms, holds and forgets faces; reads any picture without failing."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from edge.capture.media import VideoFile
from edge.clock import NS_PER_S
from edge.features.face_crop import crop_face
from edge.features.haar import HaarTracker, TrackerSettings, detect_in_still, load_cascade
from edge.features.spec import FaceSpec
from edge.types import Face, VideoFrame
from tests.support.signals import empty_picture, face_picture, frames


def track(tracker: HaarTracker, pictures, fps: float = 15.0, start_ns: int = 0) -> list[tuple[Face, ...]]:
    return [tracker.update(frame) for frame in frames(pictures, fps, start_ns)]


def faces_of(count: int) -> list[np.ndarray]:
    return [face_picture(i) for i in range(count)]


def empties(count: int) -> list[np.ndarray]:
    return [empty_picture(i) for i in range(count)]


def test_a_face_speaks_once_it_is_confirmed_and_keeps_its_id():
    seen = track(HaarTracker(), faces_of(30))
    assert seen[0] == seen[1] == ()
    assert all(len(faces) == 1 for faces in seen[2:])
    assert {face.id for faces in seen for face in faces} == {1}


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
    tracker = HaarTracker(TrackerSettings(confirm_hits=3))
    seen = track(tracker, [face_picture(0), *empties(1), face_picture(1), *empties(1), face_picture(2)])
    assert not any(seen)


def test_two_faces_come_largest_first_with_ids_of_their_own():
    def pair(i: int) -> np.ndarray:
        small = cv2.copyMakeBorder(face_picture(i, 240, 180), 30, 30, 40, 40, cv2.BORDER_REPLICATE)
        return np.hstack([small, face_picture(i)])

    seen = track(HaarTracker(), [pair(i) for i in range(30)])
    first, second = seen[-1]
    assert first.box_xywh[2] > second.box_xywh[2]
    assert first.id != second.id


@pytest.mark.parametrize("speed", [5, 8, 12, 16])
def test_when_two_cross_and_one_goes_one_is_left(speed: int):
    head = face_picture(0)[40:220, 80:240]

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
    head = face_picture(0)[40:220, 80:240]

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
    head = face_picture(0)[40:220, 80:240]

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
    assert track(tracker, [face_picture(i, 640, 480) for i in range(8)])[-1]
    small = track(tracker, [face_picture(i, 160, 120) for i in range(8)], start_ns=8 * NS_PER_S // 15)
    for faces in small:
        for face in faces:
            crop_face(empty_picture(0, 160, 120), face.box_xywh, FaceSpec())  # refuses a box outside the picture
    assert small[-1][0].box_xywh[2] < 120
    tiny = track(tracker, [face_picture(i, 32, 24) for i in range(8)], start_ns=16 * NS_PER_S // 15)
    assert not any(tiny)


def test_a_picture_with_noise_in_it_is_no_reason_to_fail():
    rng = np.random.default_rng(0)
    track(HaarTracker(), [*faces_of(5), *(rng.integers(0, 256, (240, 320), np.uint8) for _ in range(10))])


@pytest.mark.parametrize("size", [(48, 48), (96, 128), (1200, 1600)])
def test_a_face_in_a_still_is_found_at_any_size(size: tuple[int, int]):
    height, width = size
    found = detect_in_still(load_cascade(), cv2.resize(face_picture(0), (width, height), interpolation=cv2.INTER_AREA))
    assert found
    x, y, w, h = found[0]
    assert x < width / 2 < x + w
    assert y < height * 0.6 < y + h


@pytest.mark.data
@pytest.mark.parametrize("name", ["pyfeat_single_face.mp4", "fer_woman2.mp4"])
def test_a_real_face_is_followed(data_part, name: str):
    tracker = HaarTracker()
    with VideoFile(str(data_part(f"video/{name}"))) as video:
        seen = [len(tracker.update(frame)) for frame, _ in zip(video, range(60), strict=False)]
    assert np.mean(np.array(seen) > 0) > 0.7


@pytest.mark.data
def test_where_nobody_is_nobody_is_seen(data_part):
    tracker = HaarTracker()
    with VideoFile(str(data_part("video/pyfeat_no_face.mp4"))) as video:
        seen = [len(tracker.update(frame)) for frame, _ in zip(video, range(60), strict=False)]
    assert np.mean(np.array(seen) > 0) < 0.1


@pytest.mark.data
def test_photographs_hold_faces_where_their_manifest_counts_some(data_part):
    folder = data_part("face_images")
    with (folder / "manifest.csv").open(newline="") as handle:
        listed = {row["file"]: int(row["haar_faces"]) > 0 for row in csv.DictReader(handle)}
    cascade = load_cascade()
    found = {name: bool(detect_in_still(cascade, cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE))) for name in listed}
    assert len(listed) >= 15
    assert {name for name in listed if listed[name] and not found[name]} == set()
    assert not found["pyfeat_noface_mountain.jpg"]


def test_a_frame_is_not_changed():
    picture = face_picture(0)
    kept = picture.copy()
    HaarTracker().update(VideoFrame(picture, 0, 0))
    np.testing.assert_array_equal(picture, kept)
