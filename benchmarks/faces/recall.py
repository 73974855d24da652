"""Recall of face tracking, compared with a full scan of every frame in small steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moodring.features.face.crop import crop_face
from moodring.features.face.geometry import Box
from moodring.features.face.haar import load_cascade
from moodring.features.face.tracker import HaarTracker
from moodring.inference.branches import FaceBranch
from moodring.inference.bundle import Bundle
from moodring.types import FaceCrop, VideoFrame

MIN_CONSECUTIVE_FRAMES = 3
MIN_OVERLAP = 0.3  # intersection over union of two boxes of one face
MAX_LISTED_FRAMES = 40


def measure_recall(frames: list[VideoFrame], bundle: Bundle) -> dict[str, Any]:
    """Return the recall of the tracker over the frames in which the reference scan finds a face."""
    expected = persistent_boxes(reference_scan(frames))
    tracked = track_clip(frames, bundle)
    with_face = [i for i, boxes in enumerate(expected) if boxes]
    box_hits = {i: [any(box.iou(other) > MIN_OVERLAP for other in tracked.faces[i]) for box in expected[i]] for i in with_face}
    hits = [any(box_hits[i]) for i in with_face]
    detected = [i for i, faces in enumerate(tracked.faces) if faces]
    frames_late = next((i for i in detected if i >= with_face[0]), len(tracked.faces)) - with_face[0]
    hits_after_first = [hit for i, hit in zip(with_face, hits, strict=True) if i >= detected[0]]
    return {
        "frames_with_a_face": len(with_face),
        "recall": float(np.mean(hits)),
        "recall_from_the_first_detection_on": float(np.mean(hits_after_first)),
        "recall_of_boxes": float(np.mean([hit for frame_hits in box_hits.values() for hit in frame_hits])),
        "first_detection_frames_late": frames_late,
        "missed_frames": [i for i, hit in zip(with_face, hits, strict=True) if not hit][:MAX_LISTED_FRAMES],
        "ids": len(tracked.frames_of_id),
    }


def reference_scan(frames: Iterable[VideoFrame]) -> list[list[Box]]:
    """Return the boxes of a full-size scan of every frame in small steps, with some false positives."""
    cascade = load_cascade()
    boxes = []
    for frame in frames:
        smallest = round(0.12 * frame.grey.shape[0])
        found = cascade.detectMultiScale(frame.grey, 1.05, 5, minSize=(smallest, smallest))
        boxes.append([Box(x + w / 2, y + h / 2, w) for x, y, w, h in found])
    return boxes


def persistent_boxes(boxes: list[list[Box]]) -> list[list[Box]]:
    """Return the boxes that are part of at least `MIN_CONSECUTIVE_FRAMES` boxes in a row, each overlapping the next."""
    before = _run_lengths(boxes)
    after = _run_lengths(boxes[::-1])[::-1]
    return [
        [box for box, a, b in zip(here, before[i], after[i], strict=True) if a + b - 1 >= MIN_CONSECUTIVE_FRAMES]
        for i, here in enumerate(boxes)
    ]


def _run_lengths(boxes: list[list[Box]]) -> list[list[int]]:
    """Return, for each box, the length of the longest run of overlapping boxes that ends with it."""
    lengths: list[list[int]] = []
    for i, here in enumerate(boxes):
        previous = list(zip(boxes[i - 1], lengths[i - 1], strict=True)) if i else []
        lengths.append([1 + max((n for p, n in previous if p.iou(box) > MIN_OVERLAP), default=0) for box in here])
    return lengths


@dataclass(slots=True)
class TrackedClip:
    """The boxes of the tracked faces in each frame, and in how many frames each id occurred."""

    faces: list[list[Box]] = field(default_factory=list)
    frames_of_id: dict[int, int] = field(default_factory=dict)


def track_clip(frames: Iterable[VideoFrame], bundle: Bundle) -> TrackedClip:
    """Run the tracker on a clip. As in the pipeline, the face branch rates the primary face of each frame."""
    tracker, tracked = HaarTracker(), TrackedClip()
    branch = FaceBranch(bundle.open("face"), bundle.models["face"])
    for frame in frames:
        faces = tracker.update(frame)
        tracked.faces.append([Box(x + w / 2, y + h / 2, w) for x, y, w, h in (face.box_xywh for face in faces)])
        for face in faces:
            tracked.frames_of_id[face.id] = tracked.frames_of_id.get(face.id, 0) + 1
        if faces and not faces[0].held:
            crop = crop_face(frame.grey, faces[0].box_xywh, bundle.spec.face)
            tracker.update_confidence(faces[0].id, branch.run(FaceCrop(crop, frame.capture_time_ns, 1.0)).usable)
    return tracked
