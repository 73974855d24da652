"""Pictures and clips in which nobody is: what the face branch says of pieces of them, and of what Haar wrongly finds there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from moodring.errors import DataError
from moodring.evaluation.data.readers import read_grey
from moodring.evaluation.engine import Engine, progress
from moodring.features.face.crop import crop_face
from moodring.types import U8, FaceCrop

FRAMES_PER_CLIP = 25  # of each clip, spread evenly
SQUARES_PER_FRAME = 40  # of each picture or frame
MIN_SIDE_PX = 32  # pixels of side
CASCADES = ("frontalface_default", "frontalface_alt2", "profileface")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
SEED = 0


def evaluate_nonfaces(engine: Engine, paths: Sequence[Path]) -> dict[str, Any]:
    """Return the share of non-faces that the branch refuses (`usable` below one half), for random squares and Haar's finds."""
    branch, spec = engine.face("ferplus"), engine.bundle.spec.face
    cascades = load_cascades()
    rng = np.random.default_rng(SEED)
    usable: dict[str, list[float]] = {"squares": [], "haar_finds": []}
    for path in progress(list(paths), "pictures and clips without a face"):
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
        "refused": float(np.mean(np.array(both) < 0.5)),
        **{
            kind: {"n": len(values), "refused": float(np.mean(np.array(values) < 0.5)) if values else None}
            for kind, values in usable.items()
        },
    }


def read_frames(path: Path) -> Iterator[U8]:
    """Yield a picture, or frames spread over a clip, as grey uint8 [H, W]."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield read_grey(path)
        return
    capture = cv2.VideoCapture(str(path))
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        if count <= 0:
            raise DataError(f"{path}: is no clip that can be read; it may be truncated")
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
    """Draw squares of all sizes inside a picture."""
    height, width = grey.shape
    largest = min(height, width)
    if largest < MIN_SIDE_PX:
        return []
    sides = np.exp(rng.uniform(np.log(MIN_SIDE_PX), np.log(largest), SQUARES_PER_FRAME)).astype(int)
    return [(int(rng.integers(0, width - s + 1)), int(rng.integers(0, height - s + 1)), int(s), int(s)) for s in sides]


def load_cascades() -> list[cv2.CascadeClassifier]:
    """Load OpenCV's face cascades, which `finds` asks without care."""
    return [cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml") for name in CASCADES]


def detect_unmerged(cascade: cv2.CascadeClassifier, grey: U8, factor: float = 1.1) -> list[tuple[int, int, int, int]]:
    """Return every window that passes the cascade, unconfirmed by its neighbours: all of them are wrong here.

    They are sorted: OpenCV's threads give them in any order.
    """
    boxes = cascade.detectMultiScale(grey, factor, 0, minSize=(MIN_SIDE_PX, MIN_SIDE_PX))
    return sorted((int(x), int(y), int(w), int(h)) for x, y, w, h in boxes)
