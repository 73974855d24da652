"""Grey pictures as cheaply as a source gives them: the face path needs neither colour nor more lines than a face can use.

A decoder's luma plane is taken as it is, and a JPEG is decoded to grey at a reduced size: either costs a fraction of the way
through colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from moodring.types import U8

if TYPE_CHECKING:  # a run before cameras that need no decoder of video never loads one
    import av

MIN_HEIGHT = 400  # the smallest face that is looked for, 12 % of them, still fills the face branch's 48 pixels
_JPEG_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def reduction_factor(height: int) -> int:
    """Return by how much a picture of `height` lines may shrink (1, 2, 4 or 8) without losing what a face needs."""
    return next((factor for factor in (8, 4, 2) if height // factor >= MIN_HEIGHT), 1)


def downscale(grey: U8, reduction: int) -> U8:
    """Average uint8 [H, W] over squares of `reduction` pixels."""
    if reduction == 1:
        return grey
    size = (max(1, grey.shape[1] // reduction), max(1, grey.shape[0] // reduction))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def luma_plane(frame: av.VideoFrame) -> U8:
    """Return a decoded picture as uint8 [H, W], turned as its metadata says.

    Where the decoder gives an 8-bit luma plane this is a view of it: no pixel is touched. Other forms are converted. Video
    keeps its own range (mostly 16 to 235): whatever reads a face normalises it.
    """
    luma_first_formats = ("yuv", "nv", "gray")  # forms whose first plane is the luma
    pixel_format = frame.format
    if (
        pixel_format.name.startswith(luma_first_formats)
        and pixel_format.components[0].bits == 8
        and (pixel_format.is_planar or pixel_format.name == "gray")
    ):
        plane = frame.planes[0]
        grey = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    else:
        grey = np.asarray(frame.to_ndarray(format="gray"), np.uint8)
    quarter_turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(grey, quarter_turns)) if quarter_turns else grey


def decode_jpeg(data: U8, reduction: int) -> U8 | None:
    """Decode the bytes of a JPEG, uint8 [N], to grey at 1/`reduction` of its size; None where they are damaged."""
    if not data.size:
        return None
    grey: U8 | None = cv2.imdecode(data, _JPEG_FLAGS[reduction])
    return grey
