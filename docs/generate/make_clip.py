"""Make the bundled clip: a photograph under a moving camera and a synthetic voice.

usage: python docs/generate/make_clip.py OUT.mp4

Needs scikit-image (the photographs), PyAV and espeak-ng (the Debian package of that name); the same versions write the same
bytes. The camera moves around a face, stays on it during a pause in the speech, and turns away from it for the last second and
a half while the voice continues. The clip therefore contains both modalities, the face alone and the voice alone.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

SECONDS = 14
FPS = 25
WIDTH, HEIGHT = 640, 480
RATE_HZ = 48_000
FACE_CENTRE = (224.0, 128.0)  # pixels of the astronaut photograph; the Haar box there has a side of 95 pixels
NO_FACE_CENTRE = (850.0, 270.0)  # a part of the canvas without a face
PAN_START_S, PAN_END_S = 12.1, 12.5  # the camera turns away between these times
NOISE_DB = -62.0  # background noise: a real room is never digitally silent


@dataclass(frozen=True)
class Sentence:
    """A sentence and its espeak-ng options: pitch 0-99, speed in words a minute, amplitude 0-200; then a gap in seconds."""

    text: str
    pitch: int
    speed: int
    amplitude: int
    gap_s: float


# The sentences describe the clip and express no person's emotion.
SENTENCES = (
    Sentence("This is a test clip, made by a program!", 62, 165, 120, 0.12),
    Sentence("The voice is a machine, and so it feels nothing.", 38, 150, 90, 0.12),
    Sentence("Sometimes it sounds lively!", 74, 180, 140, 1.55),
    Sentence("After a pause, it sounds slow.", 24, 140, 75, 0.12),
    Sentence("Look, the picture turns away now!", 68, 175, 130, 0.0),
)


def synthesize(sentence: Sentence) -> NDArray[np.float32]:
    """Return the sentence as mono float32 [N] at `RATE_HZ`, without the silence at its start and end."""
    options = ["-v", "en-us", "-p", str(sentence.pitch), "-s", str(sentence.speed), "-a", str(sentence.amplitude)]
    synthesized = subprocess.run(["espeak-ng", *options, "--stdout", sentence.text], check=True, capture_output=True)
    with wave.open(io.BytesIO(synthesized.stdout)) as reader:
        rate_hz = reader.getframerate()
        samples = np.frombuffer(reader.readframes(-1), dtype="<i2").astype(np.float32) / 32768.0
    loud = np.flatnonzero(np.abs(samples) > 0.004)
    samples = samples[loud[0] : loud[-1] + 1]
    times_s = np.arange(int(len(samples) * RATE_HZ / rate_hz)) / RATE_HZ
    return np.asarray(np.interp(times_s, np.arange(len(samples)) / rate_hz, samples), np.float32)


def make_sound() -> NDArray[np.float32]:
    """Return the whole sound track, float32 [SECONDS * RATE_HZ]."""
    noise = np.random.default_rng(0).standard_normal(SECONDS * RATE_HZ) * 10 ** (NOISE_DB / 20)
    track = noise.astype(np.float32)
    start = int(0.2 * RATE_HZ)
    for sentence in SENTENCES:
        voice = synthesize(sentence)
        end = start + len(voice)
        if end > len(track):
            raise SystemExit(
                f"make_clip: the sentences take {end / RATE_HZ:.1f} s, more than the {SECONDS} s of the clip; shorten one"
            )
        track[start:end] += voice
        print(f"{start / RATE_HZ:6.2f} - {end / RATE_HZ:5.2f} s  {sentence.text}")
        start = end + int(sentence.gap_s * RATE_HZ)
    return np.clip(track, -1.0, 1.0)


def make_canvas() -> NDArray[np.uint8]:
    """Return the scene, RGB uint8 [512, 1280, 3]: the portrait on the left, a cup of coffee on the right."""
    portrait = skimage.data.astronaut()
    coffee = cv2.resize(skimage.data.coffee(), (768, 512), interpolation=cv2.INTER_AREA)
    return np.concatenate([portrait, coffee], axis=1)


def camera_pose(time_s: float) -> tuple[float, float, float, float]:
    """Return the view of the camera on the canvas: centre x and y in pixels, zoom, roll in degrees. It is smooth in time."""
    turn = np.clip((time_s - PAN_START_S) / (PAN_END_S - PAN_START_S), 0.0, 1.0)
    away = turn * turn * (3.0 - 2.0 * turn)
    x = (1.0 - away) * FACE_CENTRE[0] + away * NO_FACE_CENTRE[0] + 22.0 * np.sin(2 * np.pi * 0.13 * time_s)
    y = (1.0 - away) * FACE_CENTRE[1] + away * NO_FACE_CENTRE[1] + 9.0 * np.sin(2 * np.pi * 0.21 * time_s + 1.0)
    zoom = 1.9 + 0.22 * np.sin(2 * np.pi * 0.09 * time_s)
    roll_deg = 3.5 * np.sin(2 * np.pi * 0.17 * time_s + 0.5)
    return float(x), float(y), float(zoom), float(roll_deg)


def render(canvas: NDArray[np.uint8], time_s: float) -> NDArray[np.uint8]:
    """Return the image at a time, RGB uint8 [HEIGHT, WIDTH, 3]."""
    x, y, zoom, roll_deg = camera_pose(time_s)
    matrix = cv2.getRotationMatrix2D((x, y), roll_deg, zoom)
    matrix[:, 2] += (WIDTH / 2 - x, HEIGHT / 2 - y)
    image = cv2.warpAffine(canvas, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(image, np.uint8)


def video_frame(canvas: NDArray[np.uint8], index: int) -> av.VideoFrame:
    """Return the frame with this index."""
    frame = av.VideoFrame.from_ndarray(render(canvas, index / FPS), format="rgb24")
    frame.pts, frame.time_base = index, Fraction(1, FPS)
    return frame


def audio_frame(sound: NDArray[np.float32], index: int) -> av.AudioFrame:
    """Return the sound of the frame with this index."""
    length = RATE_HZ // FPS
    part = sound[None, index * length : (index + 1) * length]
    frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, index * length, Fraction(1, RATE_HZ)
    return frame


def write(path: Path, sound: NDArray[np.float32]) -> None:
    """Encode the clip as H.264 and AAC, on one thread, so that the bytes do not depend on the number of cores."""
    canvas = make_canvas()
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "27", "preset": "veryslow", "threads": "1"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        audio.bit_rate = 64_000
        for index in range(SECONDS * FPS):
            container.mux(video.encode(video_frame(canvas, index)))
            container.mux(audio.encode(audio_frame(sound, index)))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def main(argv: Sequence[str]) -> int:
    """Write the clip to the named file; return 0, or 2 for a wrong command line."""
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if shutil.which("espeak-ng") is None:
        sys.exit("make_clip: espeak-ng is missing: sudo apt-get install espeak-ng, or brew install espeak-ng")
    path = Path(argv[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = make_sound()
    write(path, sound)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
