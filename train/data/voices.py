"""Recordings of speech corpora and noise as sound, and the frames at which the runtime would read a window of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError
from moodring.evaluation import speech
from moodring.evaluation.data.corpus import Clip, Corpus, read_corpus
from moodring.evaluation.data.readers import read_sound
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.voice_activity import VoiceActivityDetector
from moodring.features.audio.window import MIN_RECENT_VOICED_FRAMES, MIN_VOICED_FRAMES, RECENT_FRAMES, make_noise_reduction
from moodring.features.spec import SpeechSpec
from moodring.labels import CLASSES, LABELS
from moodring.types import F32

I64 = NDArray[np.int64]

DENOISE_BATCH = 64  # recordings in one run of the noise tracker


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of a corpus.

    `samples` is float32 [N] at 16 kHz; `ends` holds the numbers of frames after which a window may end.
    """

    clip: Clip
    samples: F32
    ends: I64
    corpus: str

    @property
    def label(self) -> int:
        """Index of the intended class in LABELS."""
        if self.clip.index is None:
            raise ValueError(f"{self.clip.path} has no label of moodring")
        return self.clip.index

    @property
    def speaker(self) -> str:
        """The speaker, with the corpus: numbers of speakers repeat between corpora."""
        return f"{self.corpus}/{self.clip.speaker}"

    @property
    def actor(self) -> int | None:
        """The number of the actor of a RAVDESS recording; None for another corpus."""
        return int(self.clip.speaker) if self.clip.path.parent.name.startswith("Actor_") else None

    def target(self, votes: float = 0.0) -> F32:
        """Return the distribution to learn, float32 [8]; `votes` is the share of the listeners' votes in it, if any."""
        intended: F32 = np.eye(CLASSES, dtype=np.float32)[self.label]
        heard = self.clip.votes
        if not heard or not votes:
            return intended
        shares = np.array([heard.get(label, 0.0) for label in LABELS], np.float32)
        return np.asarray((1 - votes) * intended + votes * shares, np.float32)


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


def find_corpora(folders: Sequence[Path]) -> list[Corpus]:
    """Return the corpora in `folders`: each is a corpus, or holds RAVDESS in its subfolder ravdess.

    Raise DataError if one of them is neither, or if two have the same name.
    """
    corpora = [read_corpus(folder / "ravdess" if (folder / "ravdess").is_dir() else folder) for folder in folders]
    for place, corpus in enumerate(corpora):
        if corpus.name in {other.name for other in corpora[:place]}:
            raise DataError(f"{corpus.folder}: two corpora are called {corpus.name}; rename one of the folders")
    return corpora


def load_utterances(folders: Sequence[Path], spec: SpeechSpec) -> list[Utterance]:
    """Read the labelled recordings of the corpora in `folders`.

    Recordings of classes that moodring does not have are left out. Of exact copies, only the first one is kept (RAVDESS has
    one). A recording that is shorter than a window is lengthened by silence. Raise DataError if there are no recordings.
    """
    voices: list[Utterance] = []
    for corpus in find_corpora(folders):
        clips = [clip for clip in corpus.clips if clip.index is not None]
        if not clips:
            raise DataError(f"{corpus.folder}: holds no recording with a label of {', '.join(LABELS)}")
        copies: set[bytes] = set()
        recordings: list[tuple[Clip, F32]] = []
        for clip in clips:
            samples = clip.read(spec.mfcc.rate_hz)
            digest = hashlib.sha256(samples.tobytes()).digest()
            if digest not in copies:
                copies.add(digest)
                recordings.append((clip, _lengthen(samples, spec)))
        for start in range(0, len(recordings), DENOISE_BATCH):
            group = recordings[start : start + DENOISE_BATCH]
            ends = window_ends([samples for _, samples in group], spec)
            voices += [Utterance(clip, samples, at, corpus.name) for (clip, samples), at in zip(group, ends, strict=True)]
    return voices


def _lengthen(samples: F32, spec: SpeechSpec) -> F32:
    """Return the samples with silence at the end, if they are shorter than the shortest window."""
    shortest = spec.mfcc.window_samples + spec.mfcc.hop_samples * (spec.min_frames - 1)
    return samples if len(samples) >= shortest else np.pad(samples, (0, shortest - len(samples)))


def clip_windows(samples: F32, spec: SpeechSpec) -> F32:
    """Return the windows that the evaluation reads of a clip, float32 [hops, window_frames, columns]."""
    windows = [window.features.copy() for window in speech.clip_windows(samples, spec)]
    return np.array(windows, np.float32).reshape(-1, spec.window_frames, spec.columns)


def load_noises(folders: Sequence[Path], rate_hz: int) -> list[F32]:
    """Read the ESC-10 recordings in noise/esc10, in or beside one of `folders`, float32 [N] each; [] if there are none.

    The last fold is held out for the evaluation, as are the long recordings in noise.
    """
    places = [place / "noise" / "esc10" for folder in folders for place in (folder, folder.parent)]
    paths = sorted(next((place for place in places if place.is_dir()), places[0]).glob("*/*.flac"))
    folds = {path.name.split("-")[0] for path in paths}
    held_out = max(folds) if len(folds) > 1 else None
    return [read_sound(path, rate_hz) for path in paths if path.name.split("-")[0] != held_out]
