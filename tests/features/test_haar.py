"""Face detector: scan slices cover the frame, faces of every size are detected, the region search gives their boxes."""

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
from moodring.features.face.geometry import Box
from moodring.features.face.haar import (
    CLOSE_SEARCH,
    PYRAMID_FACTOR,
    QUICK_SEARCH,
    SEARCH_SIDE,
    SLICE_WINDOWS,
    SMALLEST_SIDE,
    FaceDetector,
    load_cascade,
    plan_scan,
)
from tests.support.signals import empty_frame, face_frame


@given(st.integers(1, 1200), st.integers(1, 1200), st.floats(0.05, 0.9))
def test_slices_cover_every_position_of_every_size_once(height: int, width: int, fraction: float):
    smallest = fraction * height
    slices = plan_scan((height, width), smallest)
    strips = [strip for scan_slice in slices for strip in scan_slice]
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


def test_slices_have_similar_cost():
    for shape in ((480, 640), (720, 1280), (240, 320)):
        for scan_slice in plan_scan(shape, 0.12 * shape[0])[:-1]:
            windows = sum((s.end - s.first) * (shape[1] - s.side) * (SEARCH_SIDE / s.side) ** 2 for s in scan_slice)
            assert 0.9 * SLICE_WINDOWS < windows < 1.1 * SLICE_WINDOWS + 1


@pytest.mark.parametrize("use_check_cascade", [False, True])
@pytest.mark.parametrize("height", [120, 200, 330, 480, 700])
def test_face_of_any_size_is_detected_by_both_scans_and_region_searches(height: int, use_check_cascade: bool):
    scene = np.full((720, 960), 120, np.uint8)
    head = face_frame(0, height * 4 // 3, height)
    scene[10 : 10 + height, 15 : 15 + head.shape[1]] = head
    detector = FaceDetector()
    detections = [
        detection
        for scan_slice in plan_scan(scene.shape, 0.06 * 720)
        for detection in detector.scan(scene, scan_slice, use_check_cascade)
    ]
    expected = Box(15 + head.shape[1] / 2, 10 + height / 2, 0.4 * height)  # the face is in the middle of the head image
    near = [detection for detection in detections if detection.box.iou(expected) > 0.3]
    assert near
    best = max(near, key=lambda detection: detection.neighbours).box
    for search in (detector.search, detector.check):
        assert max(detection.box.iou(best) for detection in search(scene, best, CLOSE_SEARCH)) > 0.6


def test_missing_cascade_raises_an_error_with_install_instructions(monkeypatch):
    with pytest.raises(BackendError, match="reinstall opencv-python-headless"):
        load_cascade("no_such_cascade.xml")
    monkeypatch.delattr(haar.cv2, "CascadeClassifier")
    with pytest.raises(BackendError, match="<5"):
        load_cascade()


def test_nothing_is_detected_in_an_empty_scene():
    detector = FaceDetector()
    frame = empty_frame(0)
    for use_check_cascade in (False, True):
        assert not [
            detection
            for scan_slice in plan_scan(frame.shape, 30)
            for detection in detector.scan(frame, scan_slice, use_check_cascade)
        ]
    assert detector.check(frame, Box(100, 100, 60), CLOSE_SEARCH) == []
    assert detector.search(frame, Box(100, 100, 60), CLOSE_SEARCH) == []
    assert detector.search(frame, Box(-500, 100, 60), QUICK_SEARCH) == []  # completely outside


@pytest.mark.parametrize("size", [(48, 48), (96, 128), (1200, 1600)])
def test_face_in_a_still_image_is_detected_at_any_size(size: tuple[int, int]):
    height, width = size
    found = FaceDetector().detect_in_image(cv2.resize(face_frame(0), (width, height), interpolation=cv2.INTER_AREA))
    assert found
    x, y, w, h = found[0].xywh
    assert x < width / 2 < x + w
    assert y < height * 0.6 < y + h


@pytest.mark.data
def test_faces_are_detected_in_the_photographs_that_the_manifest_lists(data_path):
    folder = data_path("face_images")
    with (folder / "manifest.csv").open(newline="") as handle:
        has_faces = {row["file"]: int(row["haar_faces"]) > 0 for row in csv.DictReader(handle)}
    detector = FaceDetector()
    found = {name: bool(detector.detect_in_image(cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE))) for name in has_faces}
    assert len(has_faces) >= 15
    assert {name for name in has_faces if has_faces[name] and not found[name]} == set()
    assert not found["pyfeat_noface_mountain.jpg"]
