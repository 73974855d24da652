"""RAVDESS voices and what is no voice, as sound, with the frames at which the runtime would look at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.evaluation import speech
from edge.evaluation.readers import RavdessClip, list_ravdess, read_sound
from edge.features.spec import SpeechSpec
from edge.features.speech_window import RECENT_FRAMES, RECENT_VOICED_FRAMES, open_mfcc
from edge.features.voice_activity import VoiceActivity

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Voice:
    """One recording: `samples` float32 [N] at 16 kHz; `ends` are the frame counts at which a window may end."""

    clip: RavdessClip
    samples: F32
    ends: I64


def find_ravdess(data_dir: Path) -> Path:
    for folder in (data_dir / "ravdess", data_dir):
        if any(folder.glob("Actor_*")):
            return folder
    raise DataError(f"{data_dir}: holds no RAVDESS recordings (Actor_NN folders), neither itself nor in ravdess/")


def window_ends(samples: F32, spec: SpeechSpec) -> I64:
    """Return every frame count at which the runtime would see speech; the whole clip where it never would."""
    mfcc = open_mfcc(spec)
    frames = len(mfcc.push(samples))
    voiced = VoiceActivity(spec.mfcc).update(mfcc.log_mel, mfcc.likelihood)
    sums = np.concatenate([[0], np.cumsum(voiced)])
    counts = np.arange(1, frames + 1)
    recent = sums[counts] - sums[np.maximum(counts - RECENT_FRAMES, 0)]
    ends = counts[(recent >= RECENT_VOICED_FRAMES) & (counts >= spec.min_frames)]
    return ends if len(ends) else np.array([frames])


def load_voices(data_dir: Path, spec: SpeechSpec) -> list[Voice]:
    """Read every RAVDESS recording once; exact copies (Actor_07 has one) count once."""
    voices: list[Voice] = []
    seen: set[tuple[int, bytes]] = set()
    for clip in list_ravdess(find_ravdess(data_dir)):
        samples = read_sound(clip.path, spec.mfcc.rate_hz)
        if len(samples) < spec.mfcc.window_samples + spec.mfcc.hop_samples * (spec.min_frames - 1):
            raise DataError(f"{clip.path}: lasts {len(samples) / spec.mfcc.rate_hz:.2f} s; it may be truncated")
        key = (clip.actor, samples.tobytes())
        if key not in seen:
            seen.add(key)
            voices.append(Voice(clip, samples, window_ends(samples, spec)))
    return voices


def clip_windows(samples: F32, spec: SpeechSpec) -> F32:
    """Return the windows by which a clip is evaluated, float32 [hops, window_frames, columns]."""
    windows = [window.features.copy() for window in speech.clip_windows(samples, spec)]
    return np.array(windows, np.float32).reshape(-1, spec.window_frames, spec.columns)


def load_noises(data_dir: Path, rate_hz: int) -> list[F32]:
    """Read esc10's training folds; the last fold at hand and the long recordings are kept for evaluation."""
    paths = sorted((data_dir / "noise" / "esc10").glob("*/*.flac"))
    folds = {path.name.split("-")[0] for path in paths}
    held_out = max(folds) if len(folds) > 1 else None
    return [read_sound(path, rate_hz) for path in paths if path.name.split("-")[0] != held_out]
