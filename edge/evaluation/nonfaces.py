"""Evaluation of the face branch on images and videos without people: random squares and false detections of the cascades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from moodring.errors import DataError
from moodring.evaluation.data.readers import read_grey
from moodring.evaluation.engine import SEED, Engine, progress
from moodring.features.face.crop import crop_face
from moodring.types import U8, FaceCrop

FRAMES_PER_CLIP = 25  # spread evenly over the clip
SQUARES_PER_FRAME = 40
MIN_SIDE_PX = 32
CASCADES = ("frontalface_default", "frontalface_alt2", "profileface")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")


def evaluate_nonfaces(engine: Engine, paths: Sequence[Path]) -> dict[str, Any]:
    """Return the share of non-faces that the branch rejects (`usable` below the bundle's threshold).

    `squares` are random squares, `haar_finds` the windows that pass a cascade.
    """
    branch, spec = engine.face_branch("ferplus"), engine.bundle.spec.face
    threshold = engine.bundle.models["face"].usable_threshold
    cascades = load_cascades()
    rng = np.random.default_rng(SEED)
    usable: dict[str, list[float]] = {"squares": [], "haar_finds": []}
    for path in progress(list(paths), "images and clips without a face"):
        for grey in read_frames(path):
            boxes = {
                "squares": random_squares(grey, rng),
                "haar_finds": [box for cascade in cascades for box in detect_unmerged(cascade, grey)],
            }
            for kind, found in boxes.items():
                usable[kind] += [branch.run(FaceCrop(crop_face(grey, box, spec), 0, 1.0)).usable for box in found]
    both = [value for values in usable.values() for value in values]
    return {
        "files": [path.name for path in paths],
        "refused": float(np.mean(np.array(both) < threshold)),
        **{
            kind: {"n": len(values), "refused": float(np.mean(np.array(values) < threshold)) if values else None}
            for kind, values in usable.items()
        },
    }


def read_frames(path: Path) -> Iterator[U8]:
    """Yield an image, or up to `FRAMES_PER_CLIP` frames of a video, as grey uint8 [H, W]. Raises DataError."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield read_grey(path)
        return
    capture = cv2.VideoCapture(str(path.absolute()))  # absolute: FFmpeg takes a name with a colon for an address
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        if count <= 0:
            raise DataError(f"{path}: cannot be decoded as video; it may be truncated")
        wanted = set(np.linspace(0, count - 1, min(FRAMES_PER_CLIP, count)).astype(int).tolist())
        for number in range(count):
            if not capture.grab():
                return
            if number in wanted:
                _, frame = capture.retrieve()
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
    finally:
        capture.release()


def random_squares(grey: U8, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Draw boxes (x, y, side, side) inside an image, with log-uniform sides; none if the image is smaller than MIN_SIDE_PX."""
    height, width = grey.shape
    largest = min(height, width)
    if largest < MIN_SIDE_PX:
        return []
    sides = np.exp(rng.uniform(np.log(MIN_SIDE_PX), np.log(largest), SQUARES_PER_FRAME)).astype(int)
    return [(int(rng.integers(0, width - s + 1)), int(rng.integers(0, height - s + 1)), int(s), int(s)) for s in sides]


def load_cascades() -> list[cv2.CascadeClassifier]:
    """Load OpenCV's frontal and profile face cascades."""
    return [cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml") for name in CASCADES]


def detect_unmerged(cascade: cv2.CascadeClassifier, grey: U8, factor: float = 1.1) -> list[tuple[int, int, int, int]]:
    """Return every window (x, y, width, height) that passes the cascade, without merging neighbours.

    The windows are sorted, because their order from OpenCV depends on its threads.
    """
    boxes = cascade.detectMultiScale(grey, factor, 0, minSize=(MIN_SIDE_PX, MIN_SIDE_PX))
    return sorted((int(x), int(y), int(w), int(h)) for x, y, w, h in boxes)
