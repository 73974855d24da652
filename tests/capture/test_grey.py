"""Grey frames from every pixel format: the luma plane where there is one, a conversion otherwise; and from JPEGs."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.capture.grey import MIN_HEIGHT, decode_jpeg, downscale, luma_plane, reduction_factor
from tests.support.signals import face_frame

PIXEL_FORMATS = [
    "gray", "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuva420p", "nv12", "yuyv422", "uyvy422",
    "yuv420p10le", "yuv422p10le", "p010le", "gray10le", "gray16le", "rgb24", "bgr24", "rgba", "gbrp", "ya8",
]  # fmt: skip


@pytest.mark.parametrize("size", [(320, 240), (322, 242), (34, 18), (2, 2)])
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_luma_plane_returns_the_grey_frame_for_every_pixel_format(pixel_format: str, size: tuple[int, int]):
    width, height = size
    original = face_frame(0, width, height)
    grey = luma_plane(av.VideoFrame.from_ndarray(original, format="gray").reformat(format=pixel_format))
    assert grey.shape == (height, width)
    assert grey.dtype == np.uint8
    full_range, video_range = original.astype(float), 16 + original * (219 / 255)
    assert min(np.abs(grey - full_range).mean(), np.abs(grey - video_range).mean()) < 2.5


def test_luma_plane_is_a_view_that_stays_valid_after_the_frame_is_deleted():
    frame = av.VideoFrame.from_ndarray(face_frame(0), format="gray").reformat(format="yuv420p")
    grey = luma_plane(frame)
    expected = grey.copy()
    assert not grey.flags.owndata
    del frame
    for index in range(20):
        av.VideoFrame.from_ndarray(face_frame(index), format="gray").reformat(format="yuv420p")
    np.testing.assert_array_equal(grey, expected)


@given(st.integers(1, 8000))
def test_reduction_factor_is_the_largest_that_keeps_the_minimum_height(height: int):
    factor = reduction_factor(height)
    assert factor in (1, 2, 4, 8)
    assert factor == 1 or height // factor >= MIN_HEIGHT
    assert factor == 8 or height // (2 * factor) < MIN_HEIGHT


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_decode_jpeg_at_a_reduction_equals_downscaling_the_frame(reduction: int):
    original = face_frame(0, 1280, 960)
    data = cv2.imencode(".jpg", cv2.cvtColor(original, cv2.COLOR_GRAY2BGR))[1].reshape(-1)
    grey = decode_jpeg(data, reduction)
    assert grey is not None
    assert np.abs(grey.astype(int) - downscale(original, reduction)).mean() < 3


@given(st.binary(max_size=300), st.integers(0, 200))
def test_decode_jpeg_of_damaged_data_returns_none_or_a_frame_and_never_raises(tail: bytes, keep: int):
    data = cv2.imencode(".jpg", face_frame(0, 64, 48))[1].tobytes()
    grey = decode_jpeg(np.frombuffer(data[:keep] + tail, np.uint8), 1)
    assert grey is None or grey.ndim == 2
