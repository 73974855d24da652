"""RAVDESS recordings and noise as sound, and the frames at which the runtime would read a window of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError
from moodring.evaluation import speech
from moodring.evaluation.data.readers import RavdessClip, list_ravdess, read_sound
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.voice_activity import VoiceActivityDetector
from moodring.features.audio.window import MIN_RECENT_VOICED_FRAMES, MIN_VOICED_FRAMES, RECENT_FRAMES, make_noise_reduction
from moodring.features.spec import SpeechSpec
from moodring.types import F32

I64 = NDArray[np.int64]

DENOISE_BATCH = 64  # recordings in one run of the noise tracker


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording: `samples` float32 [N] at 16 kHz, and `ends`, the numbers of frames after which a window may end."""

    clip: RavdessClip
    samples: F32
    ends: I64


def find_ravdess(data_dir: Path) -> Path:
    """Return the folder with the Actor_NN folders: DIR/ravdess or DIR. Raise DataError if neither has one."""
    for folder in (data_dir / "ravdess", data_dir):
        if any(folder.glob("Actor_*")):
            return folder
    raise DataError(
        f"{data_dir}: no RAVDESS recordings (Actor_NN folders) in it or in its subfolder ravdess; pass their folder"
    )


def window_ends(sounds: Sequence[F32], spec: SpeechSpec) -> list[I64]:
    """Return, for each sound, the numbers of frames after which the runtime would read a window.

    If it would read none, the result is the length of the sound.
    """
    mels, likelihoods = run_front_end(sounds, spec)
    return [_window_ends(mel, likelihood, spec) for mel, likelihood in zip(mels, likelihoods, strict=True)]


def _window_ends(log_mel: F32, likelihood: NDArray[np.float64], spec: SpeechSpec) -> I64:
    frames = len(log_mel)
    voiced = VoiceActivityDetector(spec.mfcc).update(log_mel[:, : spec.mfcc.filters], likelihood)
    sums = np.concatenate([[0], np.cumsum(voiced)])
    counts = np.arange(1, frames + 1)
    recent = sums[counts] - sums[np.maximum(counts - RECENT_FRAMES, 0)]
    within = sums[counts] - sums[np.maximum(counts - spec.window_frames, 0)]
    ends = counts[(recent >= MIN_RECENT_VOICED_FRAMES) & (within >= MIN_VOICED_FRAMES) & (counts >= spec.min_frames)]
    return ends if len(ends) else np.array([frames])


def run_front_end(sounds: Sequence[F32], spec: SpeechSpec) -> tuple[list[F32], list[NDArray[np.float64]]]:
    """Run the runtime's front end on sounds; return log mel energies [frames, filters] and speech likelihoods [frames] of each.

    If the spec has pitch, two more columns hold pitch and voicing. The noise tracker processes all sounds together, because a
    frame costs as much for one stream as for many.
    """
    mfcc = Mfcc(spec.mfcc, pitch=spec.pitch)
    mels: list[F32] = []
    pitches: list[F32] = []
    for samples in sounds:
        mfcc.reset()
        mfcc.push(samples)
        mels.append(mfcc.log_mel.copy())
        pitches.append(mfcc.pitch.copy())
    longest = max(map(len, mels))
    energies = np.ones((longest, len(mels), spec.mfcc.filters), np.float32)
    for stream, mel in enumerate(mels):
        energies[: len(mel), stream] = np.exp(mel)
    likelihood = np.zeros((longest, len(mels)))
    make_noise_reduction(spec, (len(mels),)).apply(energies, likelihood)
    epsilon = float(np.finfo(np.float64).eps)
    cleaned = [np.log(np.maximum(energies[: len(mel), stream], epsilon)) for stream, mel in enumerate(mels)]
    if spec.pitch:
        cleaned = [np.concatenate([mel, pitch], axis=1) for mel, pitch in zip(cleaned, pitches, strict=True)]
    return cleaned, [likelihood[: len(mel), stream] for stream, mel in enumerate(mels)]


def load_utterances(data_dir: Path, spec: SpeechSpec) -> list[Utterance]:
    """Read the RAVDESS recordings; of exact copies (Actor_07 has one), only the first is kept.

    Raise DataError if there are no recordings or one is too short.
    """
    recordings: list[tuple[RavdessClip, F32]] = []
    keys: set[tuple[int, bytes]] = set()
    for clip in list_ravdess(find_ravdess(data_dir)):
        samples = read_sound(clip.path, spec.mfcc.rate_hz)
        if len(samples) < spec.mfcc.window_samples + spec.mfcc.hop_samples * (spec.min_frames - 1):
            duration_s = len(samples) / spec.mfcc.rate_hz
            raise DataError(
                f"{clip.path}: lasts {duration_s:.2f} s, less than a window; it may be truncated: download it again"
            )
        key = (clip.actor, samples.tobytes())
        if key not in keys:
            keys.add(key)
            recordings.append((clip, samples))
    voices: list[Utterance] = []
    for start in range(0, len(recordings), DENOISE_BATCH):
        group = recordings[start : start + DENOISE_BATCH]
        ends = window_ends([samples for _, samples in group], spec)
        voices += [Utterance(clip, samples, clip_ends) for (clip, samples), clip_ends in zip(group, ends, strict=True)]
    return voices


def clip_windows(samples: F32, spec: SpeechSpec) -> F32:
    """Return the windows that the evaluation reads of a clip, float32 [hops, window_frames, columns]."""
    windows = [window.features.copy() for window in speech.clip_windows(samples, spec)]
    return np.array(windows, np.float32).reshape(-1, spec.window_frames, spec.columns)


def load_noises(data_dir: Path, rate_hz: int) -> list[F32]:
    """Read the ESC-10 recordings in DIR/noise/esc10, float32 [N] each; return an empty list if there are none.

    The last fold is held out for the evaluation, as are the long recordings in DIR/noise.
    """
    paths = sorted((data_dir / "noise" / "esc10").glob("*/*.flac"))
    folds = {path.name.split("-")[0] for path in paths}
    held_out = max(folds) if len(folds) > 1 else None
    return [read_sound(path, rate_hz) for path in paths if path.name.split("-")[0] != held_out]
