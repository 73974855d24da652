"""Grey pictures from every form of frame: luma as it is where there is one, converted where there is none."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.capture.grey import MIN_HEIGHT, decode_jpeg, downscale, luma_plane, reduction_factor
from tests.support.signals import face_frame

FORMS = [
    "gray", "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuva420p", "nv12", "yuyv422", "uyvy422",
    "yuv420p10le", "yuv422p10le", "p010le", "gray10le", "gray16le", "rgb24", "bgr24", "rgba", "gbrp", "ya8",
]  # fmt: skip


@pytest.mark.parametrize("size", [(320, 240), (322, 242), (34, 18), (2, 2)])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_frame_gives_the_same_picture(form: str, size: tuple[int, int]):
    width, height = size
    picture = face_frame(0, width, height)
    grey = luma_plane(av.VideoFrame.from_ndarray(picture, format="gray").reformat(format=form))
    assert grey.shape == (height, width)
    assert grey.dtype == np.uint8
    full, video = picture.astype(float), 16 + picture * (219 / 255)
    assert min(np.abs(grey - full).mean(), np.abs(grey - video).mean()) < 2.5


def test_luma_is_taken_without_a_copy_and_outlives_the_frame():
    frame = av.VideoFrame.from_ndarray(face_frame(0), format="gray").reformat(format="yuv420p")
    grey = luma_plane(frame)
    kept = grey.copy()
    assert not grey.flags.owndata
    del frame
    for index in range(20):
        av.VideoFrame.from_ndarray(face_frame(index), format="gray").reformat(format="yuv420p")
    np.testing.assert_array_equal(grey, kept)


@given(st.integers(1, 8000))
def test_a_picture_shrinks_as_far_as_a_face_allows(height: int):
    factor = reduction_factor(height)
    assert factor in (1, 2, 4, 8)
    assert factor == 1 or height // factor >= MIN_HEIGHT
    assert factor == 8 or height // (2 * factor) < MIN_HEIGHT


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_a_jpeg_is_decoded_to_what_shrinking_it_gives(reduction: int):
    picture = face_frame(0, 1280, 960)
    data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))[1].reshape(-1)
    grey = decode_jpeg(data, reduction)
    assert grey is not None
    assert np.abs(grey.astype(int) - downscale(picture, reduction)).mean() < 3


@given(st.binary(max_size=300), st.integers(0, 200))
def test_damaged_jpegs_are_no_picture_or_a_picture_but_never_a_failure(tail: bytes, keep: int):
    data = cv2.imencode(".jpg", face_frame(0, 64, 48))[1].tobytes()
    grey = decode_jpeg(np.frombuffer(data[:keep] + tail, np.uint8), 1)
    assert grey is None or grey.ndim == 2
