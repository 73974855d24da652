"""Recordings that are cut from the bundled clip and encoded again: real faces and voices, in any number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av

from moodring.run.sources import SAMPLE_CLIP

START_STEP_S = 0.7


def write_cuts(folder: Path, count: int, seconds: float, source: Path = SAMPLE_CLIP) -> list[Path]:
    """Write `count` cuts of a recording with `seconds` each, as cut_0000.mp4 and so on; return their paths.

    The cuts start 0.7 s after one another, from the start again at the end. No two of them are equal, up to a cut every 40 ms.
    """
    with av.open(str(source)) as container:
        duration_s = (container.duration or 0) / av.time_base
    starts = _starts(max(0.1, duration_s - seconds))
    return [write_cut(folder / f"cut_{index:04}.mp4", source, next(starts), seconds) for index in range(count)]


def _starts(last_s: float) -> Iterator[float]:
    start_s, turn = 0.0, 0
    while True:
        yield start_s
        start_s += START_STEP_S
        if start_s > last_s:
            turn += 1
            start_s = (0.04 * turn) % last_s


def write_cut(path: Path, source: Path, start_s: float, seconds: float) -> Path:
    """Write the part of a recording from `start_s` with H.264 and AAC, as far as it has video and sound; return the path."""
    with av.open(str(source)) as original, av.open(str(path), "w") as container:
        if original.streams.video:
            _copy_video(original, container, start_s, seconds)
        if original.streams.audio:
            original.seek(0)
            _copy_sound(original, container, start_s, seconds)
    return path
