"""Recordings that are cut from a real one and encoded again: real faces and voices, in any number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from moodring.run.sources import SAMPLE_CLIP
from moodring.types import F32, SAMPLE_RATE_HZ, U8
from tests.support.recordings import write_recording

STEP = 17  # frames between the starts of two cuts


def write_cuts(folder: Path, count: int, seconds: float, source: Path = SAMPLE_CLIP) -> list[Path]:
    """Write `count` cuts of a recording with `seconds` each, as STEM_0000.mp4 and so on, H.264 and AAC; return their paths."""
    frames, fps, sound = decode(source)
    length = min(len(frames), round(seconds * fps))
    starts = _starts(len(frames) - length)
    paths = [folder / f"{source.stem}_{index:04}.mp4" for index in range(count)]
    for path, start in zip(paths, starts, strict=False):
        first, last = (round(index / fps * SAMPLE_RATE_HZ) for index in (start, start + length))
        piece = sound[first:last] if sound.size else None
        write_recording(path, video_frames=frames[start : start + length], fps=fps, sound=piece, video_codec="libx264")
    return paths


def _starts(last: int) -> Iterator[int]:
    """Yield the first frames of cuts: every 17th frame, then again from the next one."""
    start, turn = 0, 0
    while True:
        yield start
        start += STEP
        if start > last:
            turn += 1
            start = turn % min(STEP, last + 1)


def decode(source: Path) -> tuple[list[U8], int, F32]:
    """Return all frames of a recording in grey, their rate, and its sound as mono at 16 kHz."""
    with av.open(str(source)) as container:
        video = container.streams.video[0]
        fps = round(float(video.average_rate or 25))
        frames = [frame.to_ndarray(format="gray").astype(np.uint8, copy=False) for frame in container.decode(video)]
        if not container.streams.audio:
            return frames, fps, np.zeros(0, np.float32)
        container.seek(0)
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE_HZ)
        decoded = [*container.decode(container.streams.audio[0]), None]
        pieces = [piece.to_ndarray().ravel() for frame in decoded for piece in resampler.resample(frame)]
    return frames, fps, np.concatenate(pieces).astype(np.float32)
