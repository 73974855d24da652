"""Face tracking: CPU time, recall, false positives and track ids.

    python -m benchmarks faces --data DIR [--bundle DIR] [--json FILE]

DIR contains `video`, `av_clips` and `face_images`. The cost is the thread CPU time of one call per frame, compared with
OpenCV's detector on the same frames in the same run. Recall is measured against a full scan of every frame in small steps; a
face counts if that scan finds it in at least three consecutive frames. OpenCV uses one thread.

The committed figures are in docs/benchmarks/faces.json; they take eight minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2

from benchmarks.faces.clips import TRANSFORMS, manifest_files, photo_frames, read_frames, transformed_frames
from benchmarks.faces.cost import measure_cost
from benchmarks.faces.recall import measure_recall
from benchmarks.faces.scenes import measure_false_positives, measure_two_people
from benchmarks.report import machine, write_json
from moodring.inference import bundle as bundles

CLIPS_WITHOUT_FACE = (
    "intel_bottle-detection.mp4",
    "intel_car-detection.mp4",
    "pyfeat_no_face.mp4",
    "intel_one-by-one-person-detection.mp4",
)
PHOTO_WITHOUT_FACE = "pyfeat_noface_mountain.jpg"
PHOTOS_OF_TWO = ("fr_two_people.jpg", "deepface_couple.jpg")
VARIED_CLIP = "short_hamilton_clip.mp4"  # a film scene with cuts: shows how much its recall varies
SIZES = ((640, 480), (1280, 720))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure face tracking on the clips and write the figures; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks faces", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with video, av_clips and face_images")
    parser.add_argument("--bundle", type=Path, default=bundles.resolve("default"), metavar="DIR", help="model bundle")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    data, bundle = arguments.data, bundles.load(arguments.bundle)
    clips = [data / part / name for part in ("av_clips", "video") for name in manifest_files(data / part)]
    with_face = [clip for clip in clips if clip.name not in CLIPS_WITHOUT_FACE]
    without_face = {clip.name: read_frames(clip) for clip in clips if clip.name in CLIPS_WITHOUT_FACE}
    photo_without_face = photo_frames(data / "face_images" / PHOTO_WITHOUT_FACE)
    figures = {
        "benchmark": "faces",
        "machine": machine(),
        "bundle": bundle.id,
        "cpu_ms": {f"{w}x{h}": measure_cost(data, (w, h)) for w, h in SIZES},
        "recall": {clip.name: measure_recall(list(read_frames(clip)), bundle) for clip in with_face},
        "recall_varied": {
            name: measure_recall(transformed_frames(data / "av_clips" / VARIED_CLIP, transform), bundle)
            for name, transform in TRANSFORMS.items()
        },
        "nobody": {
            name: measure_false_positives(frames, bundle)
            for name, frames in [*without_face.items(), (PHOTO_WITHOUT_FACE, photo_without_face)]
        },
        "two_people": {name: measure_two_people(data / "face_images" / name) for name in PHOTOS_OF_TWO},
    }
    write_json(figures, arguments.json)
    return 0
