"""CPU time of face tracking, compared with OpenCV's detector on whole frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faces.clips import read_frames, resized
from moodring.clock import NS_PER_MS
from moodring.diagnostics.peers.run import COARSE_SCAN
from moodring.features.face.haar import load_cascade
from moodring.features.face.tracker import HaarTracker

TIMED_CLIPS = (
    "av_clips/grid_bbaf2n.mpg",
    "av_clips/grid_swiz3n.mpg",
    "video/fer_woman2.mp4",
    "video/pyfeat_single_face.mp4",
)
PEERS: dict[str, dict[str, Any]] = {"defaults": {}, "factor 1.3, 5 neighbours": COARSE_SCAN}
PEER_FRAMES = 10  # of each timed clip: one of them takes as long as a hundred frames of the tracker


def measure_cost(data: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Return the thread CPU time per frame in ms, over the timed clips scaled to one size (width, height).

    The tracker's time is that of each frame after one in which a face was tracked. `new_scene` is the first frame of a new
    tracker. The peers process some of the same frames.
    """
    cascade = load_cascade()
    tracked_ms: list[float] = []
    new_scene_ms: list[float] = []
    peers_ms: dict[str, list[float]] = {name: [] for name in PEERS}
    fresh_tracker = HaarTracker()
    for name in TIMED_CLIPS:
        tracker, has_face = HaarTracker(), False
        frames = [resized(frame, size) for frame in read_frames(data / name)]
        for index, frame in enumerate(frames):
            faces, update_ms = _timed(tracker.update, frame)
            if has_face:
                tracked_ms.append(update_ms)
            has_face = bool(faces)
            if index % (len(frames) // PEER_FRAMES) == 0:
                fresh_tracker.reset()
                new_scene_ms.append(_timed(fresh_tracker.update, frame)[1])
                for peer, options in PEERS.items():
                    peers_ms[peer].append(_timed(cascade.detectMultiScale, frame.grey, **options)[1])
    median = float(np.median(tracked_ms))
    return {
        "frames": len(tracked_ms),
        "median": median,
        "p95": float(np.percentile(tracked_ms, 95)),
        "p99": float(np.percentile(tracked_ms, 99)),
        "max": max(tracked_ms),
        "new_scene": {"median": float(np.median(new_scene_ms)), "max": max(new_scene_ms)},
        "detectMultiScale_median": {peer: float(np.median(times)) for peer, times in peers_ms.items()},
        "times_less_than": {peer: float(np.median(times)) / median for peer, times in peers_ms.items()},
    }


def _timed(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    """Return the result of a call and its thread CPU time in ms."""
    start_ns = time.thread_time_ns()
    result = call(*arguments, **options)
    return result, (time.thread_time_ns() - start_ns) / NS_PER_MS
