"""The crop: one geometry, inside the picture and over its edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.features.face.crop import crop_face, normalize_crops, resize_crop
from moodring.features.spec import FaceSpec


def slope(width: int = 200, height: int = 150) -> np.ndarray:
    """A picture whose value tells the column."""
    return np.tile(np.arange(width, dtype=np.uint8), (height, 1))


def test_a_box_of_the_right_size_is_cut_out_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (150, 200), np.uint8)
    np.testing.assert_array_equal(crop_face(picture, (30, 40, 48, 48), FaceSpec()), picture[40:88, 30:78])


def test_the_margin_widens_the_box_on_every_side():
    crop = crop_face(slope(), (80, 60, 32, 32), FaceSpec(margin=0.25))  # 32 + 2 x 8 = 48
    np.testing.assert_array_equal(crop, slope()[52:100, 72:120])


def test_an_oblong_box_becomes_the_square_of_its_longer_side_round_the_same_centre():
    crop = crop_face(slope(), (80, 60, 24, 48), FaceSpec())
    np.testing.assert_array_equal(crop, slope()[60:108, 68:116])


def test_over_the_edge_the_edge_is_repeated():
    picture = np.random.default_rng(0).integers(0, 256, (150, 200), np.uint8)
    repeated = np.pad(picture, 60, mode="edge")
    for x, y in ((-24, -10), (180, 120), (-30, 130), (190, -40)):
        np.testing.assert_array_equal(crop_face(picture, (x, y, 48, 48), FaceSpec()), repeated[y + 60 :, x + 60 :][:48, :48])


@given(
    x=st.integers(-300, 300), y=st.integers(-300, 300), w=st.integers(-5, 400), h=st.integers(-5, 400),
    margin=st.floats(-0.25, 1.0), size=st.integers(16, 64),
)  # fmt: skip
def test_any_box_gives_a_crop_or_a_clear_refusal(x: int, y: int, w: int, h: int, margin: float, size: int):
    picture = slope()
    outside = w <= 0 or h <= 0 or x >= 200 or y >= 150 or x + w <= 0 or y + h <= 0
    spec = FaceSpec(margin=margin, size=size)
    if outside:
        with pytest.raises(ValueError, match="has no part inside the 200x150 picture"):
            crop_face(picture, (x, y, w, h), spec)
    else:
        crop = crop_face(picture, (x, y, w, h), spec)
        assert crop.shape == (size, size)
        assert crop.dtype == np.uint8


@pytest.mark.parametrize("side", [16, 48, 100])
def test_a_flat_picture_stays_flat_at_any_size(side: int):
    assert (resize_crop(np.full((side, side), 77, np.uint8), 48) == 77).all()


def test_a_resized_crop_is_never_the_same_memory():
    crop = np.zeros((48, 48), np.uint8)
    assert not np.shares_memory(resize_crop(crop, 48), crop)


def test_normalised_pictures_have_no_level_and_no_contrast_of_their_own():
    pixels = np.random.default_rng(1).integers(0, 256, (3, 48, 48), np.uint8)
    pixels[1] //= 8
    normal = normalize_crops(pixels)
    assert normal.shape == (3, 1, 48, 48)
    assert normal.dtype == np.float32
    np.testing.assert_allclose(normal.mean(axis=(2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std(axis=(2, 3)), 1, atol=1e-3)


def test_each_picture_is_normalised_by_itself():
    pixels = np.random.default_rng(1).integers(0, 256, (3, 48, 48), np.uint8)
    np.testing.assert_array_equal(normalize_crops(pixels)[1:2], normalize_crops(pixels[1:2]))


def test_a_flat_picture_gives_zeros_not_noise():
    assert not normalize_crops(np.full((1, 48, 48), 9, np.uint8)).any()
