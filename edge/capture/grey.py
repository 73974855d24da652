"""Grey frames at the lowest cost that a source allows. The face branch uses neither colour nor full resolution.

The luma plane of a video decoder is used without conversion. A JPEG is decoded to grey at a reduced size. Both take a fraction
of the time of decoding to colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from moodring.types import U8

if TYPE_CHECKING:  # PyAV is large; a run with a camera of this machine never loads it
    import av

MIN_HEIGHT = 400  # rows; the smallest face that is searched for (12 % of them) still fills the face branch's 48 pixels
MIN_ASPECT_DIFFERENCE, MAX_ASPECT = 0.02, 5.0
_JPEG_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def reduction_factor(height: int) -> int:
    """Return the largest factor (1, 2, 4 or 8) by which a frame of `height` rows can shrink and keep `MIN_HEIGHT` rows."""
    return next((factor for factor in (8, 4, 2) if height // factor >= MIN_HEIGHT), 1)


def downscale(grey: U8, reduction: int) -> U8:
    """Downscale uint8 [H, W]: each output pixel is the mean of a square of `reduction` x `reduction` pixels."""
    if reduction == 1:
        return grey
    size = (max(1, grey.shape[1] // reduction), max(1, grey.shape[0] // reduction))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def downscale_for_faces(grey: U8) -> tuple[U8, int]:
    """Downscale uint8 [H, W] by its `reduction_factor`; return the result and the factor."""
    reduction = reduction_factor(len(grey))
    return downscale(grey, reduction), reduction


def grey_frame(frame: av.VideoFrame, aspect: float = 1.0, *, full_size: bool = False) -> tuple[U8, int]:
    """Return a decoded frame for the face path, uint8 [H, W] with square pixels, and its reduction factor.

    It is rotated and mirrored as its metadata states. `aspect` is the width of a pixel relative to its height. With
    `full_size` it is not reduced. Raises ValueError or av.error.FFmpegError for a pixel format that cannot be converted.
    """
    quarter_turns, is_mirrored = _orientation(frame)
    grey = luma_plane(frame)
    if is_mirrored:
        grey = np.ascontiguousarray(np.fliplr(grey))
    if quarter_turns:
        grey = np.ascontiguousarray(np.rot90(grey, quarter_turns))
    small, reduction = (grey, 1) if full_size else downscale_for_faces(grey)
    return _square_pixels(small, aspect, axis=0 if quarter_turns % 2 else 1), reduction


def _orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Return the counter-clockwise quarter turns that show a frame upright, and whether it is mirrored left to right before."""
    from av.sidedata import sidedata  # noqa: PLC0415  only frames of PyAV come here

    quarter_turns = round((frame.rotation or 0) / 90)
    stored: Any
    # `frame.side_data` would refer to the frame and be kept in it: the frames of a recording would then stay in memory until
    # the garbage collector finds these cycles; 1080p frames took 350 MB.
    container: Any = sidedata.SideDataContainer
    try:
        stored = container(frame).get("DISPLAYMATRIX")  # 3x3 int32: x' = a x + c y, y' = b x + d y
    except ValueError:  # PyAV does not know the type of all side data, such as EXIF
        stored = None
    if stored is not None:
        (a, b), (c, d) = np.frombuffer(stored, np.int32).reshape(3, 3)[:2, :2].astype(float)
        if a * d < b * c:  # the angle is that of the first column, which a mirrored frame has negated
            return (quarter_turns + 2) % 4, True
    return quarter_turns % 4, False


def _square_pixels(grey: U8, aspect: float, axis: int) -> U8:
    """Scale uint8 [H, W] along the axis of its pixels' width, so that they are square.

    A ratio near 1 changes nothing, and neither does one that no camera has: it is damaged.
    """
    if abs(aspect - 1) < MIN_ASPECT_DIFFERENCE or not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        return grey
    height, width = (max(1, round(side * aspect)) if index == axis else side for index, side in enumerate(grey.shape))
    size = (width, height)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA if aspect < 1 else cv2.INTER_LINEAR), np.uint8)


def luma_plane(frame: av.VideoFrame) -> U8:
    """Return a decoded frame as uint8 [H, W], without its rotation.

    If the decoder delivers an 8-bit luma plane, the result is a view of it. Other pixel formats are converted. Values keep the
    range of the video (mostly 16 to 235); the face crop is normalised later.
    """
    luma_first_formats = ("yuv", "nv", "gray")  # pixel formats whose first plane is the luma
    pixel_format = frame.format
    if (
        pixel_format.name.startswith(luma_first_formats)
        and pixel_format.components[0].bits == 8
        and (pixel_format.is_planar or pixel_format.name == "gray")
        and frame.planes[0].line_size > 0  # negative: the rows are stored from the bottom up
    ):
        plane = frame.planes[0]
        return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    return np.asarray(frame.to_ndarray(format="gray"), np.uint8)


def decode_jpeg(data: U8, reduction: int) -> U8 | None:
    """Decode a JPEG, uint8 [N], to grey at 1/`reduction` of its size. Return None if the data is damaged."""
    if not data.size:
        return None
    grey: U8 | None = cv2.imdecode(data, _JPEG_FLAGS[reduction])
    return grey
