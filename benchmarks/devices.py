"""Simulated devices that play the bundled clip: an HTTP camera in a separate process, and a private microphone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from moodring.capture.media import AudioFile, VideoFile
from moodring.diagnostics.peers.cameras import run_in_process
from moodring.run.sources import SAMPLE_CLIP
from moodring.types import U8
from tests.support.devices.microphone import SoftwareMicrophone
from tests.support.devices.mjpeg import SoftwareCamera


def clip_frames(count: int | None = None) -> list[U8]:
    """Return the first frames of the bundled clip, or all of them, uint8 [H, W, 3] in grey."""
    with VideoFile(str(SAMPLE_CLIP)) as video:
        return [np.asarray(cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR), np.uint8) for frame in islice(video, count)]


@contextlib.contextmanager
def camera() -> Iterator[tuple[str, int]]:
    """Serve the frames of the clip from a separate process; yield the URL and the number of frames."""
    with run_in_process(_serve) as (url, frame_count):
        yield url, frame_count


def _serve(results: Any, stop: Event) -> None:
    frames = clip_frames()
    with SoftwareCamera(lambda index: frames[index], len(frames)) as served:
        results.put((served.url, len(frames)))
        stop.wait()


@contextlib.contextmanager
def microphone(folder: Path) -> Iterator[dict[str, str]]:
    """Play the sound of the clip into a private microphone; yield the environment in which it is the default one."""
    with AudioFile(str(SAMPLE_CLIP)) as audio:
        sound = np.concatenate([block.samples for block in audio])
    with SoftwareMicrophone(folder, sound) as played:
        yield played.environment
