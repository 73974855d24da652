"""Corruptions of face crops, and the evaluation on images without people."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring import cli
from moodring.evaluation.corruption import CORRUPTIONS, occlude_square, warp_affine
from moodring.evaluation.nonfaces import MIN_SIDE_PX, detect_unmerged, load_cascades, random_squares


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 48, 48)).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_changes_a_copy_and_is_repeatable(name: str, faces: np.ndarray) -> None:
    corruption, before = CORRUPTIONS[name], faces.copy()
    for strength in corruption.strengths:
        first, second = (corruption.apply(faces, strength, np.random.default_rng(3)) for _ in range(2))
        assert first.shape == faces.shape
        assert first.dtype == np.uint8
        assert (first == second).all()
        assert (first != faces).any()
    assert (faces == before).all()


@given(st.floats(0.02, 0.9))
def test_occluded_square_covers_the_given_share(share: float) -> None:
    white = np.full((2, 48, 48), 255, np.uint8)
    covered = (occlude_square(white, share, np.random.default_rng(1)) == 128).sum(axis=(1, 2))
    assert covered == pytest.approx(share * 48 * 48, rel=0.1, abs=60)


def test_warp_with_zero_strength_changes_nothing(faces: np.ndarray) -> None:
    assert (warp_affine(faces, np.random.default_rng(0)) == faces).all()


@given(st.integers(1, 300), st.integers(1, 300))
def test_random_squares_lie_inside_the_image(height: int, width: int) -> None:
    drawn = random_squares(np.zeros((height, width), np.uint8), np.random.default_rng(0))
    assert bool(drawn) == (min(height, width) >= MIN_SIDE_PX)
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height and w == h for x, y, w, h in drawn)


def test_unmerged_detections_have_a_fixed_order() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)
    grey = np.asarray(cv2.resize(grain, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
    frontal = load_cascades()[0]
    found = detect_unmerged(frontal, grey, 1.02)
    assert len(found) > 1
    assert all(detect_unmerged(frontal, grey, 1.02) == found for _ in range(5))


def test_nonfaces_are_rejected(tmp_path: Path) -> None:
    image, clip, out = tmp_path / "wall.png", tmp_path / "wall.avi", tmp_path / "nonfaces.json"
    wall = np.random.default_rng(0).integers(90, 110, (120, 160)).astype(np.uint8)
    cv2.imwrite(str(image), wall)
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for _ in range(3):
        writer.write(cv2.cvtColor(wall, cv2.COLOR_GRAY2BGR))
    writer.release()
    assert cli.main(["evaluate", "face", "--nonfaces", str(image), str(clip), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["squares"]["n"] == 4 * 40
    assert figures["refused"] > 0.9
    assert figures["files"] == ["wall.png", "wall.avi"]


@pytest.mark.parametrize("name", ["none.png", "none.mp4"])
def test_nonfaces_names_a_missing_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "face", "--nonfaces", str(tmp_path / name), "--json", str(tmp_path / "x.json")]) != 0
    assert name in capsys.readouterr().err
