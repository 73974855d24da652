"""Evaluation of the speech branch on RAVDESS and TESS clips, clean, in noise and corrupted.

The result of a clip is the output for the window with the most voice among those that the runtime processes. If several windows
have the same amount, it is their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.clock import NS_PER_S
from moodring.errors import DataError
from moodring.evaluation.data.readers import SOUND_SUFFIXES, RavdessClip, TessClip, list_ravdess, list_tess, read_sound
from moodring.evaluation.engine import SEED, Engine, progress
from moodring.evaluation.metrics import accuracy, classification_metrics, reliability
from moodring.evaluation.sound_corruption import SOUND_CORRUPTIONS
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.spec import SpeechSpec
from moodring.inference.branches import SpeechBranch
from moodring.types import F32, AudioBlock, BranchOutput, FeatureWindow

I64 = NDArray[np.int64]

SILENCE_S = 60


def select_clips(folder: Path, actors: Sequence[int] | None) -> tuple[RavdessClip, ...]:
    """List the RAVDESS speech clips of these actors (None: all). Raises DataError if an actor has no clips."""
    clips = list_ravdess(folder)
    if actors is None:
        return clips
    missing = set(actors) - {clip.actor for clip in clips}
    if missing:
        raise DataError(f"{folder}: holds no clips of actor {', '.join(map(str, sorted(missing)))}")
    return tuple(clip for clip in clips if clip.actor in actors)


def clip_windows(samples: F32, spec: SpeechSpec, front_end: SpeechFrontEnd | None = None) -> list[FeatureWindow]:
    """Return the windows of a clip, samples float32 [N], that the runtime processes; without voice, the last window.

    The list is empty if the clip is shorter than one window needs. `front_end` is reset first; it keeps the baseline of the
    voice from clip to clip.
    """
    front_end = front_end or SpeechFrontEnd(spec)
    front_end.reset(keep_voice=True)
    windows = list(front_end.push(AudioBlock(samples, 0, spec.mfcc.rate_hz)))
    if windows:
        return windows
    last = front_end.last_window(samples.size * NS_PER_S // spec.mfcc.rate_hz)
    return [] if last is None else [last]


def clip_mean(outputs: Sequence[BranchOutput]) -> F32:
    """Return the probabilities of a clip, float32 [8]: the mean over its windows with the most voice."""
    highest_quality = max(output.quality for output in outputs)
    best_outputs = [output.probabilities for output in outputs if output.quality == highest_quality]
    return np.asarray(np.mean(best_outputs, axis=0, dtype=np.float64), np.float32)


def clip_outputs(
    branch: SpeechBranch, samples: F32, spec: SpeechSpec, front_end: SpeechFrontEnd | None = None
) -> list[BranchOutput]:
    """Return the outputs of the branch at each hop of a clip, samples float32 [N]; at least one.

    `front_end` is that of `clip_windows`. Raises DataError if the clip is too short for one window.
    """
    outputs = [branch.run(window) for window in clip_windows(samples, spec, front_end)]
    if not outputs:
        raise DataError(f"a clip of {samples.size} samples is too short for one analysis window")
    return outputs


@dataclass(frozen=True, slots=True)
class LabelledSpeech:
    """Voice recordings, float32 [N] each, and their labels `truth`, int64 [clips]."""

    sounds: list[F32]
    truth: I64

    def run_branch(self, branch: SpeechBranch, spec: SpeechSpec, description: str) -> list[list[BranchOutput]]:
        """Return the outputs at each hop of each recording; `description` labels the progress bar."""
        return [clip_outputs(branch, sound, spec) for sound in progress(self.sounds, description)]


def read_labelled_speech(clips: Sequence[RavdessClip | TessClip]) -> LabelledSpeech:
    """Decode the clips and return them with their labels. Raises DataError."""
    sounds = [read_sound(clip.path) for clip in progress(clips, "reading clips")]
    return LabelledSpeech(sounds, np.array([clip.label for clip in clips], np.int64))


def clip_means(outputs: Sequence[Sequence[BranchOutput]]) -> F32:
    """Return `clip_mean` of each clip, float32 [clips, 8]."""
    return np.stack([clip_mean(hops) for hops in outputs])


def evaluate_ravdess(
    engine: Engine,
    folder: Path,
    actors: Sequence[int] | None,
    noise: Path | None,
    snr_db: Sequence[float],
    *,
    clips: bool = False,
) -> dict[str, Any]:
    """Evaluate RAVDESS speech; with `noise`, also the same clips with each noise recording of that folder at each SNR.

    `usable` in the result is the share of windows of the clean clips that the branch accepts as speech; with `noise`, also that
    of each noise recording and of silence. `clips` adds the probabilities of each clip.
    """
    selected = select_clips(folder, actors)
    speech_set = read_labelled_speech(selected)
    branch, spec = engine.speech_branch(), engine.bundle.spec.speech
    threshold = engine.bundle.models["speech"].usable_threshold
    clean = speech_set.run_branch(branch, spec, "clean")
    means = clip_means(clean)
    result = classification_metrics(means, speech_set.truth) | {"actors": sorted({clip.actor for clip in selected})}
    result["reliability"] = reliability(means, speech_set.truth)
    usable = [hop.usable >= threshold for hops in clean for hop in hops]
    result["usable"] = {"speech": {"windows": len(usable), "usable": float(np.mean(usable))}}
    if clips:
        rounded = [[round(float(p), 6) for p in row] for row in means]
        result["clips"] = {clip.path.stem: row for clip, row in zip(selected, rounded, strict=True)}
    if noise is not None:
        non_speech = {"silence": np.zeros(SILENCE_S * spec.mfcc.rate_hz, np.float32)}
        non_speech |= {path.stem: read_sound(path) for path in list_noise(noise)}
        result["usable"] |= {name: _measure_non_speech(branch, threshold, sound, spec) for name, sound in non_speech.items()}

        def in_noise(path: Path, snr: float) -> dict[str, Any]:
            noisy = LabelledSpeech(mix_noise(speech_set.sounds, read_sound(path), snr), speech_set.truth)
            outputs = noisy.run_branch(branch, spec, f"{path.stem} at {snr:g} dB")
            return classification_metrics(clip_means(outputs), speech_set.truth)

        result["by_noise"] = {path.stem: {f"{snr:g}": in_noise(path, snr) for snr in snr_db} for path in list_noise(noise)}
    return result


def evaluate_robustness(engine: Engine, folder: Path, actors: Sequence[int] | None) -> dict[str, Any]:
    """Evaluate RAVDESS speech under each of `SOUND_CORRUPTIONS`; the top-level figures are for the clean clips."""
    selected = select_clips(folder, actors)
    speech_set = read_labelled_speech(selected)
    branch, spec = engine.speech_branch(), engine.bundle.spec.speech
    rng = np.random.default_rng(SEED)

    def accuracy_under(name: str, strength: float) -> float:
        apply = SOUND_CORRUPTIONS[name].apply
        corrupted = LabelledSpeech([apply(sound, strength, rng) for sound in speech_set.sounds], speech_set.truth)
        return accuracy(clip_means(corrupted.run_branch(branch, spec, f"{name} {strength:g}")), speech_set.truth)

    clean = clip_means(speech_set.run_branch(branch, spec, "clean"))
    return classification_metrics(clean, speech_set.truth) | {
        "actors": sorted({clip.actor for clip in selected}),
        "by_disturbance": {
            name: {
                "unit": kind.unit,
                "by_strength": {f"{strength:g}": {"voice": accuracy_under(name, strength)} for strength in kind.strengths},
            }
            for name, kind in SOUND_CORRUPTIONS.items()
        },
    }


def evaluate_tess(engine: Engine, folder: Path) -> dict[str, Any]:
    """Evaluate TESS, a second corpus with seven of the eight classes; its two speakers alone are too few for a measure."""
    clips = list_tess(folder)
    speech_set = read_labelled_speech(clips)
    means = clip_means(speech_set.run_branch(engine.speech_branch(), engine.bundle.spec.speech, "TESS"))
    speakers = np.array([clip.speaker for clip in clips])
    return classification_metrics(means, speech_set.truth) | {
        "by_speaker": {
            name: accuracy(means[speakers == name], speech_set.truth[speakers == name])
            for name in sorted(set(speakers.tolist()))
        }
    }


def _measure_non_speech(branch: SpeechBranch, threshold: float, sound: F32, spec: SpeechSpec) -> dict[str, Any]:
    """Return the number of windows of a recording without speech and the share that the branch accepts as speech.

    The branch runs at every hop, also where voice activity detection finds no voice.
    """
    front_end = SpeechFrontEnd(spec)
    hop = spec.hop_frames * spec.mfcc.hop_samples
    usable = []
    for start in range(0, sound.size - hop + 1, hop):
        list(front_end.push(AudioBlock(sound[start : start + hop], start * NS_PER_S // spec.mfcc.rate_hz, spec.mfcc.rate_hz)))
        window = front_end.last_window(0)
        if window is not None and start + hop >= spec.mfcc.rate_hz:  # as the runtime, from one second of sound
            usable.append(branch.run(window).usable >= threshold)
    return {"windows": len(usable), "usable": float(np.mean(usable)) if usable else 0.0}


def mix_noise(sounds: Sequence[F32], noise: F32, snr_db: float) -> list[F32]:
    """Return `add_noise` of each clip; the sections of the noise are the same in every call."""
    rng = np.random.default_rng(SEED)
    return [add_noise(sound, noise, snr_db, rng) for sound in sounds]


def add_noise(sound: F32, noise: F32, snr_db: float, rng: np.random.Generator) -> F32:
    """Mix a random section of a noise into a clip, float32 [N], at a signal-to-noise ratio of mean powers."""
    section = np.take(noise, np.arange(sound.size) + rng.integers(noise.size), mode="wrap")
    noise_power = float(np.mean(sound**2)) / 10.0 ** (snr_db / 10.0)
    gain = np.sqrt(noise_power / max(float(np.mean(section**2)), 1e-12))
    return np.asarray(np.clip(sound + gain * section, -1.0, 1.0), np.float32)


def list_noise(folder: Path) -> list[Path]:
    """List the sound files of a folder in name order. Raises DataError if there are none."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in SOUND_SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: holds no noise recordings (.wav, .flac or another sound file)")
    return paths
