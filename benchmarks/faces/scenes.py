"""Tracks and labels in clips without a face, and the track ids of two people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.faces.clips import FPS
from benchmarks.faces.recall import track_clip
from moodring.clock import NS_PER_S
from moodring.config import Config
from moodring.evaluation.data.readers import read_grey
from moodring.features.face.tracker import HaarTracker
from moodring.inference.bundle import Bundle
from moodring.pipeline import Pipeline
from moodring.types import U8, EventIdentity, VideoFrame

EVENTS_HZ = 5
TWO_PEOPLE_FRAMES = 180
SCENE_HEIGHT_PX = 480
MAX_DRIFT = 0.1  # of the image's width, between two boxes of one person


def measure_false_positives(frames: Iterable[VideoFrame], bundle: Bundle) -> dict[str, int]:
    """Return the tracks in a clip without a face, the longest one in frames, and the events of the pipeline with a label."""
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
            due_ns += NS_PER_S // EVENTS_HZ
    return {
        "frames": len(frame_list),
        "tracks": len(tracked.frames_of_id),
        "longest_track_frames": max(tracked.frames_of_id.values(), default=0),
        "events_with_a_label": labels,
    }


def measure_two_people(photo: Path) -> dict[str, Any]:
    """Pan and zoom a photograph of two people for six seconds; return the ids, and how often one changed its person."""
    ids_by_position: dict[int, set[int]] = {}
    frames_with_two = 0
    grey = read_grey(photo)
    tracker = HaarTracker()
    height, width = grey.shape
    for i in range(TWO_PEOPLE_FRAMES):
        zoom, dx = SCENE_HEIGHT_PX / height * (1.0 + 0.1 * np.sin(i / 25)), 15 * np.sin(i / 12)
        shift = np.array([[zoom, 0, dx], [0, zoom, 5 * np.cos(i / 9)]])
        size = (round(width * SCENE_HEIGHT_PX / height), SCENE_HEIGHT_PX)
        scene: U8 = np.asarray(cv2.warpAffine(grey, shift, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
        faces = tracker.update(VideoFrame(scene, i * NS_PER_S // FPS, i))
        positions = {face.id: (face.box_xywh[0] + face.box_xywh[2] / 2 - dx) / zoom for face in faces}
        for face_id, position in positions.items():
            nearest = min(ids_by_position, key=lambda known: abs(known - position), default=None)
            if nearest is None or abs(nearest - position) > MAX_DRIFT * width:
                nearest = round(position)
            ids_by_position.setdefault(nearest, set()).add(face_id)
        frames_with_two += len(faces) >= 2
    all_ids = [face_id for ids in ids_by_position.values() for face_id in ids]
    return {
        "frames": TWO_PEOPLE_FRAMES,
        "frames_with_two_or_more": frames_with_two,
        "places": len(ids_by_position),
        "ids": len(set(all_ids)),
        "switches": len(all_ids) - len(ids_by_position) + len(all_ids) - len(set(all_ids)),
    }
