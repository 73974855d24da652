"""Face crops: geometry inside the frame and across its edge, resizing, normalisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.features.face.crop import crop_face, normalize_crops, resize_crop
from moodring.features.spec import FaceSpec


def column_gradient(width: int = 200, height: int = 150) -> np.ndarray:
    """Return a frame whose pixel values are the column numbers."""
    return np.tile(np.arange(width, dtype=np.uint8), (height, 1))


def test_box_of_the_crop_size_is_copied_unchanged():
    frame = np.random.default_rng(0).integers(0, 256, (150, 200), np.uint8)
    np.testing.assert_array_equal(crop_face(frame, (30, 40, 48, 48), FaceSpec()), frame[40:88, 30:78])


def test_margin_widens_the_box_on_every_side():
    crop = crop_face(column_gradient(), (80, 60, 32, 32), FaceSpec(margin=0.25))  # 32 + 2 x 8 = 48
    np.testing.assert_array_equal(crop, column_gradient()[52:100, 72:120])


def test_oblong_box_gives_a_square_of_its_longer_side_with_the_same_centre():
    crop = crop_face(column_gradient(), (80, 60, 24, 48), FaceSpec())
    np.testing.assert_array_equal(crop, column_gradient()[60:108, 68:116])


def test_edge_is_replicated_outside_the_frame():
    frame = np.random.default_rng(0).integers(0, 256, (150, 200), np.uint8)
    padded = np.pad(frame, 60, mode="edge")
    for x, y in ((-24, -10), (180, 120), (-30, 130), (190, -40)):
        np.testing.assert_array_equal(crop_face(frame, (x, y, 48, 48), FaceSpec()), padded[y + 60 :, x + 60 :][:48, :48])


@given(
    x=st.integers(-300, 300), y=st.integers(-300, 300), w=st.integers(-5, 400), h=st.integers(-5, 400),
    margin=st.floats(-0.25, 1.0), size=st.integers(16, 64),
)  # fmt: skip
def test_any_box_gives_a_crop_or_a_value_error(x: int, y: int, w: int, h: int, margin: float, size: int):
    frame = column_gradient()
    is_outside = w <= 0 or h <= 0 or x >= 200 or y >= 150 or x + w <= 0 or y + h <= 0
    spec = FaceSpec(margin=margin, size=size)
    if is_outside:
        with pytest.raises(ValueError, match="has no area inside the 200x150 frame"):
            crop_face(frame, (x, y, w, h), spec)
    else:
        crop = crop_face(frame, (x, y, w, h), spec)
        assert crop.shape == (size, size)
        assert crop.dtype == np.uint8


@pytest.mark.parametrize("side", [16, 48, 100])
def test_resizing_preserves_a_uniform_image(side: int):
    assert (resize_crop(np.full((side, side), 77, np.uint8), 48) == 77).all()


def test_resized_crop_is_a_copy():
    crop = np.zeros((48, 48), np.uint8)
    assert not np.shares_memory(resize_crop(crop, 48), crop)


def test_normalised_crops_have_zero_mean_and_unit_deviation():
    pixels = np.random.default_rng(1).integers(0, 256, (3, 48, 48), np.uint8)
    pixels[1] //= 8
    normalized = normalize_crops(pixels)
    assert normalized.shape == (3, 1, 48, 48)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized.mean(axis=(2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.std(axis=(2, 3)), 1, atol=1e-3)


def test_each_crop_is_normalised_independently():
    pixels = np.random.default_rng(1).integers(0, 256, (3, 48, 48), np.uint8)
    np.testing.assert_array_equal(normalize_crops(pixels)[1:2], normalize_crops(pixels[1:2]))


def test_uniform_crop_is_normalised_to_zeros():
    assert not normalize_crops(np.full((1, 48, 48), 9, np.uint8)).any()
