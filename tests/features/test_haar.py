"""The detector: the scan's slices cover a frame, every face size is found, the region search says where."""

from __future__ import annotations

import csv
import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.errors import BackendError
from moodring.features.face import haar
from moodring.features.face.haar import (
    CLOSE_SEARCH,
    PYRAMID_FACTOR,
    QUICK_SEARCH,
    SEARCH_SIDE,
    SLICE_WINDOWS,
    SMALLEST_SIDE,
    Box,
    FaceDetector,
    load_cascade,
    plan_scan,
)
from tests.support.signals import empty_frame, face_frame


@given(st.integers(1, 1200), st.integers(1, 1200), st.floats(0.05, 0.9))
def test_the_slices_of_a_scan_cover_every_place_of_every_size_once(height: int, width: int, fraction: float):
    smallest = fraction * height
    slices = plan_scan((height, width), smallest)
    strips = [strip for part in slices for strip in part]
    for side in {strip.side for strip in strips}:
        rows = sorted((strip.first, strip.end) for strip in strips if strip.side == side)
        assert rows[0][0] == 0
        assert rows[-1][1] == pytest.approx(height - side)
        assert all(above[1] == below[0] for above, below in itertools.pairwise(rows))
    sides = sorted({strip.side for strip in strips})
    assert all(b / a == pytest.approx(PYRAMID_FACTOR) for a, b in itertools.pairwise(sides))
    if min(height, width) >= max(SMALLEST_SIDE, smallest):
        assert sides[0] == max(SMALLEST_SIDE, smallest)
        assert sides[-1] * PYRAMID_FACTOR > min(height, width)
    else:
        assert slices == []


def test_no_slice_costs_much_more_than_another():
    for shape in ((480, 640), (720, 1280), (240, 320)):
        for part in plan_scan(shape, 0.12 * shape[0])[:-1]:
            windows = sum((s.end - s.first) * (shape[1] - s.side) * (SEARCH_SIDE / s.side) ** 2 for s in part)
            assert 0.9 * SLICE_WINDOWS < windows < 1.1 * SLICE_WINDOWS + 1


@pytest.mark.parametrize("checking", [False, True])
@pytest.mark.parametrize("height", [120, 200, 330, 480, 700])
def test_a_face_of_any_size_is_found_by_either_scan_and_by_the_searches(height: int, checking: bool):
    scene = np.full((720, 960), 120, np.uint8)
    head = face_frame(0, height * 4 // 3, height)
    scene[10 : 10 + height, 15 : 15 + head.shape[1]] = head
    detector = FaceDetector()
    detections = [
        detection for part in plan_scan(scene.shape, 0.06 * 720) for detection in detector.scan(scene, part, checking)
    ]
    expected = Box(15 + head.shape[1] / 2, 10 + height / 2, 0.4 * height)  # the head fills the middle of its picture
    near = [detection for detection in detections if detection.box.iou(expected) > 0.3]
    assert near
    best = max(near, key=lambda detection: detection.neighbours).box
    for look_again in (detector.search, detector.check):
        assert max(detection.box.iou(best) for detection in look_again(scene, best, CLOSE_SEARCH)) > 0.6


def test_a_missing_cascade_is_an_error_that_says_what_to_install(monkeypatch):
    with pytest.raises(BackendError, match="reinstall opencv-python-headless"):
        load_cascade("no_such_cascade.xml")
    monkeypatch.delattr(haar.cv2, "CascadeClassifier")
    with pytest.raises(BackendError, match="<5"):
        load_cascade()


def test_nothing_is_found_where_there_is_nothing():
    detector = FaceDetector()
    picture = empty_frame(0)
    for checking in (False, True):
        assert not [detection for part in plan_scan(picture.shape, 30) for detection in detector.scan(picture, part, checking)]
    assert detector.check(picture, Box(100, 100, 60), CLOSE_SEARCH) == []
    assert detector.search(picture, Box(100, 100, 60), CLOSE_SEARCH) == []
    assert detector.search(picture, Box(-500, 100, 60), QUICK_SEARCH) == []  # wholly outside


@pytest.mark.parametrize("size", [(48, 48), (96, 128), (1200, 1600)])
def test_a_face_in_a_still_is_found_at_any_size(size: tuple[int, int]):
    height, width = size
    found = FaceDetector().detect_in_image(cv2.resize(face_frame(0), (width, height), interpolation=cv2.INTER_AREA))
    assert found
    x, y, w, h = found[0].xywh
    assert x < width / 2 < x + w
    assert y < height * 0.6 < y + h


@pytest.mark.data
def test_photographs_hold_faces_where_their_manifest_counts_some(data_path):
    folder = data_path("face_images")
    with (folder / "manifest.csv").open(newline="") as handle:
        listed = {row["file"]: int(row["haar_faces"]) > 0 for row in csv.DictReader(handle)}
    detector = FaceDetector()
    found = {name: bool(detector.detect_in_image(cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE))) for name in listed}
    assert len(listed) >= 15
    assert {name for name in listed if listed[name] and not found[name]} == set()
    assert not found["pyfeat_noface_mountain.jpg"]
