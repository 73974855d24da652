"""What is done to crops to see what the face branch bears, and pictures of nobody."""

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
def test_a_disturbance_changes_copies_repeatably(name: str, faces: np.ndarray) -> None:
    corruption, before = CORRUPTIONS[name], faces.copy()
    for strength in corruption.strengths:
        one, again = (corruption.apply(faces, strength, np.random.default_rng(3)) for _ in range(2))
        assert one.shape == faces.shape
        assert one.dtype == np.uint8
        assert (one == again).all()
        assert (one != faces).any()
    assert (faces == before).all()


@given(st.floats(0.02, 0.9))
def test_a_hidden_square_has_the_area_it_says(share: float) -> None:
    white = np.full((2, 48, 48), 255, np.uint8)
    hidden = (occlude_square(white, share, np.random.default_rng(1)) == 128).sum(axis=(1, 2))
    assert hidden == pytest.approx(share * 48 * 48, rel=0.1, abs=60)


def test_a_crop_shifted_by_nothing_is_itself(faces: np.ndarray) -> None:
    assert (warp_affine(faces, np.random.default_rng(0)) == faces).all()


@given(st.integers(1, 300), st.integers(1, 300))
def test_squares_lie_inside(height: int, width: int) -> None:
    drawn = random_squares(np.zeros((height, width), np.uint8), np.random.default_rng(0))
    assert bool(drawn) == (min(height, width) >= MIN_SIDE_PX)
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height and w == h for x, y, w, h in drawn)


def test_what_haar_finds_comes_in_one_order() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)
    grey = np.asarray(cv2.resize(grain, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
    frontal = load_cascades()[0]
    found = detect_unmerged(frontal, grey, 1.02)
    assert len(found) > 1
    assert all(detect_unmerged(frontal, grey, 1.02) == found for _ in range(5))


def test_pictures_of_nobody_are_refused(tmp_path: Path) -> None:
    picture, clip, out = tmp_path / "wall.png", tmp_path / "wall.avi", tmp_path / "nobody.json"
    wall = np.random.default_rng(0).integers(90, 110, (120, 160)).astype(np.uint8)
    cv2.imwrite(str(picture), wall)
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for _ in range(3):
        writer.write(cv2.cvtColor(wall, cv2.COLOR_GRAY2BGR))
    writer.release()
    assert cli.main(["evaluate", "face", "--nonfaces", str(picture), str(clip), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["squares"]["n"] == 4 * 40
    assert figures["refused"] > 0.9
    assert figures["files"] == ["wall.png", "wall.avi"]


@pytest.mark.parametrize("name", ["none.png", "none.mp4"])
def test_a_missing_picture_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "face", "--nonfaces", str(tmp_path / name), "--json", str(tmp_path / "x.json")]) != 0
    assert name in capsys.readouterr().err
