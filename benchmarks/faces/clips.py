"""Clips and photographs as frames, and their changes that vary a measurement."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from moodring.capture.media import VideoFile
from moodring.clock import NS_PER_S
from moodring.evaluation.data.readers import read_grey
from moodring.types import U8, VideoFrame

FPS = 30  # of photographs that are turned into clips


def manifest_files(folder: Path) -> list[str]:
    """Return the file names in the manifest of a folder."""
    with (folder / "manifest.csv").open(newline="") as handle:
        return [row["file"] for row in csv.DictReader(handle)]


def read_frames(clip: Path) -> Iterator[VideoFrame]:
    """Decode the frames of a clip."""
    with VideoFile(str(clip)) as video:
        yield from video


def photo_frames(photo: Path) -> list[VideoFrame]:
    """Return three seconds of a photograph in front of a slightly unsteady camera, 720 pixels high."""
    grey = read_grey(photo)
    scaled = cv2.resize(grey, (round(grey.shape[1] * 720 / grey.shape[0]), 720), interpolation=cv2.INTER_AREA)
    shifts = [np.array([[1, 0, 3 * np.sin(i / 5)], [0, 1, 2 * np.cos(i / 7)]]) for i in range(3 * FPS)]
    size = (scaled.shape[1], scaled.shape[0])
    moved = [cv2.warpAffine(scaled, shift, size, borderMode=cv2.BORDER_REPLICATE) for shift in shifts]
    return [VideoFrame(np.asarray(image, np.uint8), i * NS_PER_S // FPS, i) for i, image in enumerate(moved)]


def resized(frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """Return the centre of a frame, cropped to the aspect ratio of `size` (width, height) and scaled to it."""
    height, width = frame.grey.shape
    crop_width = min(width, height * size[0] // size[1])
    crop_height = min(height, width * size[1] // size[0])
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    centre_crop = frame.grey[top : top + crop_height, left : left + crop_width]
    return VideoFrame(np.asarray(cv2.resize(centre_crop, size), np.uint8), frame.capture_time_ns, frame.seq)


def transformed_frames(clip: Path, transform: Callable[[U8], U8]) -> list[VideoFrame]:
    """Return the frames of a clip with a transform applied to each."""
    return [VideoFrame(transform(frame.grey), frame.capture_time_ns, frame.seq) for frame in read_frames(clip)]


def _mirrored(grey: U8) -> U8:
    return np.ascontiguousarray(grey[:, ::-1])


def _scaled_down(grey: U8) -> U8:
    size = (grey.shape[1] * 9 // 10, grey.shape[0] * 9 // 10)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


TRANSFORMS: dict[str, Callable[[U8], U8]] = {"mirrored": _mirrored, "at nine tenths of its size": _scaled_down}
