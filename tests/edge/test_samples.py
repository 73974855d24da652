"""The bundled clip matches its provenance note: a face in view, then none; speech with a pause."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import moodring

CLIP = Path(moodring.__file__).parent / "samples" / "clip.mp4"
FACE_LEAVES_S = 12.2


@pytest.fixture(scope="module")
def pictures() -> list[tuple[float, np.ndarray]]:
    with av.open(str(CLIP)) as container:
        return [(frame.time, frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def levels_db() -> np.ndarray:
    """Return the level of each 0.1 s of the sound in dB."""
    with av.open(str(CLIP)) as container:
        rate_hz = container.streams.audio[0].rate
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    tenths = samples[: len(samples) // (rate_hz // 10) * (rate_hz // 10)].reshape(-1, rate_hz // 10)
    return 10 * np.log10(np.mean(tenths**2, axis=1) + 1e-12)


def test_the_clip_is_small_and_has_video_and_sound():
    assert CLIP.stat().st_size < 500_000
    with av.open(str(CLIP)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]


def test_haar_detects_the_face_while_it_is_in_view(pictures):
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = []
    for time_s, grey in pictures[::5]:
        small = cv2.resize(grey, (320, 240), interpolation=cv2.INTER_AREA)
        boxes = detector.detectMultiScale(small, 1.2, 4, minSize=(40, 40))
        found.append((time_s, len(boxes), max((2 * box[3] for box in boxes), default=0)))
    there = [(boxes, height) for time_s, boxes, height in found if time_s < FACE_LEAVES_S]
    assert np.mean([boxes == 1 for boxes, _ in there]) > 0.97
    assert all(140 <= height <= 230 for boxes, height in there if boxes)
    assert not any(boxes for time_s, boxes, _ in found if time_s > FACE_LEAVES_S + 0.3)


def test_the_speech_has_one_pause(levels_db):
    speaks = levels_db > -45
    assert np.mean(speaks[2:74]) > 0.8
    assert not np.any(speaks[76:89])
    assert np.mean(speaks[91:135]) > 0.8


def test_the_sound_does_not_clip(levels_db):
    assert levels_db.max() < -3
