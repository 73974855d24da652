"""How much does following a face cost, what does it miss, and what does it take for one?

    python -m benchmarks.faces --data DIR [--bundle DIR] [--json FILE]

DIR holds `video`, `av_clips` and `face_images`. Cost is thread CPU time of one call a frame, against OpenCV's detector with its
usual arguments on the same frames in the same run. Recall is against a careful full scan of every frame; a face counts
where that scan finds it in at least three consecutive frames. Times are of one thread: `cv2.setNumThreads(1)`.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report import machine, write_json
from moodring.capture.media import VideoFile
from moodring.clock import NS_PER_S
from moodring.config import Config
from moodring.evaluation.data.readers import read_grey
from moodring.features.face.crop import crop_face
from moodring.features.face.geometry import Box
from moodring.features.face.haar import load_cascade
from moodring.features.face.tracker import HaarTracker
from moodring.inference import bundle as bundles
from moodring.inference.branches import FaceBranch
from moodring.inference.bundle import Bundle
from moodring.pipeline import Pipeline
from moodring.types import U8, EventIdentity, FaceCrop, VideoFrame

CLIPS_WITHOUT_FACE = (
    "intel_bottle-detection.mp4",
    "intel_car-detection.mp4",
    "pyfeat_no_face.mp4",
    "intel_one-by-one-person-detection.mp4",
)
SIZES = ((640, 480), (1280, 720))
TIMED_CLIPS = (
    "av_clips/grid_bbaf2n.mpg",
    "av_clips/grid_swiz3n.mpg",
    "video/fer_woman2.mp4",
    "video/pyfeat_single_face.mp4",
)
PEERS: dict[str, dict[str, Any]] = {"defaults": {}, "factor 1.3, 5 neighbours": {"scaleFactor": 1.3, "minNeighbors": 5}}
PEER_FRAMES = 10  # of each timed clip: one costs as much as a hundred of ours
VARIED_CLIP = "short_hamilton_clip.mp4"  # a film scene with cuts: how much of its recall is luck
MIN_CONSECUTIVE_FRAMES = 3
MIN_OVERLAP = 0.3  # overlap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=bundles.resolve("default"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = bundles.load(arguments.bundle)
    clips = [arguments.data / part / name for part in ("av_clips", "video") for name in manifest_files(arguments.data / part)]
    clips_with_face = [clip for clip in clips if clip.name not in CLIPS_WITHOUT_FACE]
    figures = {
        "benchmark": "faces",
        "machine": machine(),
        "bundle": bundle.id,
        "cpu_ms": {f"{w}x{h}": _cpu_cost(arguments.data, (w, h)) for w, h in SIZES},
        "recall": {clip.name: _recall(list(_frames(clip)), bundle) for clip in clips_with_face},
        "recall_varied": {
            name: _recall(_transformed_frames(arguments.data / "av_clips" / VARIED_CLIP, transform), bundle)
            for name, transform in TRANSFORMS.items()
        },
        "nobody": {
            **{clip.name: _false_positives(_frames(clip), bundle) for clip in clips if clip.name in CLIPS_WITHOUT_FACE},
            "pyfeat_noface_mountain.jpg": _false_positives(
                _photo_frames(arguments.data / "face_images/pyfeat_noface_mountain.jpg"), bundle
            ),
        },
        "two_people": {
            name: _two_people(arguments.data / "face_images" / name) for name in ("fr_two_people.jpg", "deepface_couple.jpg")
        },
    }
    write_json(figures, arguments.json)


def manifest_files(folder: Path) -> list[str]:
    with (folder / "manifest.csv").open(newline="") as handle:
        return [row["file"] for row in csv.DictReader(handle)]


def _frames(clip: Path) -> Iterator[VideoFrame]:
    with VideoFile(str(clip)) as video:
        yield from video


def _photo_frames(picture: Path) -> list[VideoFrame]:
    """A photograph held before the camera for three seconds, 720 lines high, a little unsteadily."""
    grey = read_grey(picture)
    scaled = cv2.resize(grey, (round(grey.shape[1] * 720 / grey.shape[0]), 720), interpolation=cv2.INTER_AREA)
    shifts = [np.array([[1, 0, 3 * np.sin(i / 5)], [0, 1, 2 * np.cos(i / 7)]]) for i in range(90)]
    size = (scaled.shape[1], scaled.shape[0])
    moved = [cv2.warpAffine(scaled, shift, size, borderMode=cv2.BORDER_REPLICATE) for shift in shifts]
    return [VideoFrame(np.asarray(picture, np.uint8), i * NS_PER_S // 30, i) for i, picture in enumerate(moved)]


# cost


def _cpu_cost(data: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Thread CPU time in ms, over the timed clips brought to one size, of each frame after one in which a face was known.

    The peers read some frames in between. A new scene is a frame that a tracker sees first.
    """
    cascade = load_cascade()
    ours: list[float] = []
    new_scene: list[float] = []
    fresh_tracker = HaarTracker()
    peers: dict[str, list[float]] = {name: [] for name in PEERS}
    for name in TIMED_CLIPS:
        tracker, known = HaarTracker(), False
        frames = [_resized(frame, size) for frame in _frames(data / name)]
        for index, frame in enumerate(frames):
            start_ns = time.thread_time_ns()
            faces = tracker.update(frame)
            if known:
                ours.append((time.thread_time_ns() - start_ns) / 1e6)
            known = bool(faces)
            if index % (len(frames) // PEER_FRAMES) == 0:
                fresh_tracker.reset()
                start_ns = time.thread_time_ns()
                fresh_tracker.update(frame)
                new_scene.append((time.thread_time_ns() - start_ns) / 1e6)
                for peer, options in PEERS.items():
                    start_ns = time.thread_time_ns()
                    cascade.detectMultiScale(frame.grey, **options)
                    peers[peer].append((time.thread_time_ns() - start_ns) / 1e6)
    median = float(np.median(ours))
    return {
        "frames": len(ours),
        "median": median,
        "p95": float(np.percentile(ours, 95)),
        "p99": float(np.percentile(ours, 99)),
        "max": max(ours),
        "new_scene": {"median": float(np.median(new_scene)), "max": max(new_scene)},
        "detectMultiScale_median": {peer: float(np.median(times)) for peer, times in peers.items()},
        "times_less_than": {peer: float(np.median(times)) / median for peer, times in peers.items()},
    }


def _resized(frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """The middle of a frame in the shape of `size` (width, height), brought to it."""
    height, width = frame.grey.shape
    crop_width = min(width, height * size[0] // size[1])
    crop_height = min(height, width * size[1] // size[0])
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    centre_crop = frame.grey[top : top + crop_height, left : left + crop_width]
    return VideoFrame(np.asarray(cv2.resize(centre_crop, size), np.uint8), frame.capture_time_ns, frame.seq)


# recall


def reference_scan(frames: Iterable[VideoFrame]) -> list[list[Box]]:
    """Every frame searched at full size in small steps: what is there to be found, and some that is not there."""
    cascade = load_cascade()
    boxes = []
    for frame in frames:
        smallest = round(0.12 * frame.grey.shape[0])
        found = cascade.detectMultiScale(frame.grey, 1.05, 5, minSize=(smallest, smallest))
        boxes.append([Box(x + w / 2, y + h / 2, w) for x, y, w, h in found])
    return boxes


def persistent_boxes(boxes: list[list[Box]]) -> list[list[Box]]:
    """Those boxes that stand in at least `IN_A_ROW` consecutive frames, from each to the next overlapping."""
    before = _run_lengths(boxes)
    after = _run_lengths(boxes[::-1])[::-1]
    return [
        [box for box, a, b in zip(here, before[i], after[i], strict=True) if a + b - 1 >= MIN_CONSECUTIVE_FRAMES]
        for i, here in enumerate(boxes)
    ]


def _run_lengths(boxes: list[list[Box]]) -> list[list[int]]:
    lengths: list[list[int]] = []
    for i, here in enumerate(boxes):
        previous = list(zip(boxes[i - 1], lengths[i - 1], strict=True)) if i else []
        lengths.append([1 + max((n for p, n in previous if p.iou(box) > MIN_OVERLAP), default=0) for box in here])
    return lengths


@dataclass(slots=True)
class TrackedClip:
    """What the tracker, and the face branch that judges its faces, made of a clip."""

    faces: list[list[Box]] = field(default_factory=list)
    frames_of_id: dict[int, int] = field(default_factory=dict)


def track_clip(frames: Iterable[VideoFrame], bundle: Bundle) -> TrackedClip:
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


def _transformed_frames(clip: Path, transform: Callable[[U8], U8]) -> list[VideoFrame]:
    return [VideoFrame(transform(frame.grey), frame.capture_time_ns, frame.seq) for frame in _frames(clip)]


def _mirrored(grey: U8) -> U8:
    return np.ascontiguousarray(grey[:, ::-1])


def _scaled_down(grey: U8) -> U8:
    size = (grey.shape[1] * 9 // 10, grey.shape[0] * 9 // 10)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _recall(frames: list[VideoFrame], bundle: Bundle) -> dict[str, Any]:
    expected = persistent_boxes(reference_scan(frames))
    tracked = track_clip(frames, bundle)
    with_face = [i for i, boxes in enumerate(expected) if boxes]
    hits = [
        any(box.iou(tracked_box) > MIN_OVERLAP for box in expected[i] for tracked_box in tracked.faces[i]) for i in with_face
    ]
    boxes = [
        any(box.iou(tracked_box) > MIN_OVERLAP for tracked_box in tracked.faces[i]) for i in with_face for box in expected[i]
    ]
    ours = [i for i, faces in enumerate(tracked.faces) if faces]
    frames_late = next((i for i in ours if i >= with_face[0]), len(tracked.faces)) - with_face[0]
    return {
        "frames_with_a_face": len(with_face),
        "recall": float(np.mean(hits)),
        "recall_from_the_first_detection_on": float(np.mean([h for i, h in zip(with_face, hits, strict=True) if i >= ours[0]])),
        "recall_of_boxes": float(np.mean(boxes)),
        "first_detection_frames_late": frames_late,
        "missed_frames": [i for i, hit in zip(with_face, hits, strict=True) if not hit][:40],
        "ids": len(tracked.frames_of_id),
    }


TRANSFORMS = {"mirrored": _mirrored, "at nine tenths of its size": _scaled_down}


# nobody, and two


def _false_positives(frames: Iterable[VideoFrame], bundle: Bundle) -> dict[str, int]:
    """Tracks and labels where there is no face: the longest track in frames, and events of the whole chain with a label."""
    frame_list = list(frames)
    tracked = track_clip(frame_list, bundle)
    pipeline = Pipeline(Config(), bundle, EventIdentity("/moodring/benchmark/nobody/0", str))
    labels, due_ns = 0, 0
    for frame in frame_list:
        pipeline.process_frame(frame)
        pipeline.search_new_faces(frame)
        if frame.capture_time_ns >= due_ns:
            event = pipeline.tick(frame.capture_time_ns, {"camera": "ok", "microphone": "absent"})
            labels += event.label is not None
            due_ns += NS_PER_S // 5
    return {
        "frames": len(frame_list),
        "tracks": len(tracked.frames_of_id),
        "longest_track_frames": max(tracked.frames_of_id.values(), default=0),
        "events_with_a_label": labels,
    }


def _two_people(picture: Path) -> dict[str, Any]:
    """A photograph of two, panned and zoomed for six seconds: how many ids, and whether any went from one to the other."""
    ids_by_position: dict[int, set[int]] = {}
    frames_with_two = 0
    grey = read_grey(picture)
    tracker = HaarTracker()
    height, width = grey.shape
    for i in range(180):
        zoom, dx = 480 / height * (1.0 + 0.1 * np.sin(i / 25)), 15 * np.sin(i / 12)
        shift = np.array([[zoom, 0, dx], [0, zoom, 5 * np.cos(i / 9)]])
        size = (round(width * 480 / height), 480)
        scene: U8 = np.asarray(cv2.warpAffine(grey, shift, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
        faces = tracker.update(VideoFrame(scene, i * NS_PER_S // 30, i))
        positions = {face.id: (face.box_xywh[0] + face.box_xywh[2] / 2 - dx) / zoom for face in faces}
        for face_id, position in positions.items():
            nearest = min(ids_by_position, key=lambda known: abs(known - position), default=None)
            if nearest is None or abs(nearest - position) > 0.1 * width:
                nearest = round(position)
            ids_by_position.setdefault(nearest, set()).add(face_id)
        frames_with_two += len(faces) >= 2
    all_ids = [face_id for ids in ids_by_position.values() for face_id in ids]
    return {
        "frames": 180,
        "frames_with_two_or_more": frames_with_two,
        "places": len(ids_by_position),
        "ids": len(set(all_ids)),
        "switches": len(all_ids) - len(ids_by_position) + len(all_ids) - len(set(all_ids)),
    }


if __name__ == "__main__":
    main()
