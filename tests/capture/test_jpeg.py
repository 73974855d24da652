"""Structure of a JPEG: its end and height are found past thumbnails, in any blocks, and damage is noticed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.capture.http.jpeg import DamagedJpegError, JpegEnd, is_complete_jpeg, jpeg_height
from moodring.capture.http.mjpeg import MAX_JPEG_BYTES
from moodring.capture.network import decode
from tests.support.media.wild_jpegs import jpeg, truncated, with_size, with_thumbnail

FRAMES = [jpeg(1), jpeg(1, progressive=True), with_thumbnail(jpeg(1)), with_thumbnail(jpeg(1, progressive=True))]


@pytest.mark.parametrize("data", FRAMES)
@pytest.mark.parametrize("block", [1, 7, 4096, 10**6])
@pytest.mark.parametrize("after", [b"", b"\xff\xd9", b"\xff\xff\xff", jpeg(2)])
def test_the_end_of_a_jpeg_is_found_in_any_blocks(data: bytes, block: int, after: bytes):
    end, received = JpegEnd(MAX_JPEG_BYTES), bytearray()
    block = block if len(data) < 50_000 else max(block, 97)
    for start in range(0, len(data + after), block):
        received += (data + after)[start : start + block]
        if (length := end.find(received)) is not None:
            break
    assert length == len(data)


@pytest.mark.parametrize("data", FRAMES)
def test_a_truncated_jpeg_has_no_end(data: bytes):
    assert JpegEnd(MAX_JPEG_BYTES).find(bytearray(truncated(data))) is None


@pytest.mark.parametrize("data", FRAMES[:2])
def test_a_truncated_jpeg_is_not_complete_and_does_not_end_in_the_next_one(data: bytes):
    assert not is_complete_jpeg(truncated(data))
    with pytest.raises(DamagedJpegError):
        JpegEnd(MAX_JPEG_BYTES).find(bytearray(truncated(data) + b"\r\n--cut\r\n\r\n" + jpeg(2)))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("height", "width"), [(65_500, 65_500), (30_000, 30_000), (0, 320), (240, 0), (7100, 7100)])
def test_a_frame_that_states_an_impossible_size_is_damaged(progressive: bool, height: int, width: int):
    """A progressive JPEG of 20 kB took 87 s and 8 GB to decode."""
    data = np.frombuffer(with_size(jpeg(1, progressive=progressive), height, width), np.uint8)
    assert jpeg_height(data) is None
    assert decode(data) is None
    largest = np.frombuffer(with_size(jpeg(1, progressive=progressive), 4320, 7680), np.uint8)
    assert jpeg_height(largest) == 4320


@given(data=st.binary(max_size=300))
def test_other_data_is_damaged_or_incomplete_or_has_an_end(data: bytes):
    try:
        length = JpegEnd(MAX_JPEG_BYTES).find(bytearray(data))
    except DamagedJpegError:
        return
    assert length is None or data[:length].endswith(b"\xff\xd9")


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1, 1), (1080, 1920)])
def test_jpeg_height_is_read_from_the_frame_header(height: int, width: int):
    ok, data = cv2.imencode(".jpg", np.zeros((height, width), np.uint8))
    assert ok
    assert is_complete_jpeg(data.tobytes())
    assert jpeg_height(data) == height


@pytest.mark.parametrize("data", FRAMES)
def test_a_frame_with_a_thumbnail_has_its_own_height_and_pixels(data: bytes):
    decoded = decode(np.frombuffer(data, np.uint8))
    assert decoded is not None
    assert decoded[0].shape == (240, 320)


@given(data=st.binary(max_size=300))
def test_jpeg_height_of_other_data_is_none_or_a_valid_number(data: bytes):
    found = jpeg_height(np.frombuffer(b"\xff\xd8" + data, np.uint8))
    assert found is None or 0 < found < 65_536


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", truncated(jpeg(1))[:300]])
def test_a_damaged_frame_is_not_decoded(data: bytes):
    assert decode(np.frombuffer(data, np.uint8)) is None
