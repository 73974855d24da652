"""Means of the voiced frames of speakers, from which training draws baselines (moodring.features.audio.baseline).

The runtime subtracts a running mean of the voice from each window. In training, that mean comes from random recordings of the
same speaker in the same version of the pool: a version has the same room, noise and codec for all recordings of a speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodring.features.audio.baseline import PRIOR_FRAMES, BaselineInfo
from moodring.features.audio.filterbank import cepstral_transform
from moodring.features.audio.voice_activity import VoiceActivityDetector
from moodring.features.audio.window import remove_level
from moodring.features.spec import SpeechSpec
from moodring.train.data.voices import Utterance
from moodring.types import F32

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MIN_VOICED_FRAMES = 10  # in a recording with fewer, all frames count
MAX_RECORDINGS = 20  # from which a baseline is drawn
LIMIT_DEVIATIONS = 2.5  # standard deviations between speakers


def features_of(log_mel: F32, spec: SpeechSpec) -> F32:
    """Return frames as the front end stores them, from log mel energies with pitch, float32 [n, filters + 2 with pitch]."""
    filters = spec.mfcc.filters
    if spec.mfcc.output == "log_mel":
        return log_mel
    transform = cepstral_transform(spec.mfcc).astype(np.float32)
    return np.concatenate([log_mel[:, :filters] @ transform, log_mel[:, filters:]], axis=1)


def sum_voiced_frames(log_mel: F32, likelihood: F64, spec: SpeechSpec) -> tuple[F64, int]:
    """Return the sum of the voiced frames of a sound as a network sees them, float64 [columns], and their number."""
    voiced = VoiceActivityDetector(spec.mfcc).update(log_mel[:, : spec.mfcc.filters], likelihood)
    if voiced.sum() < MIN_VOICED_FRAMES:
        voiced = np.ones(len(log_mel), np.bool_)
    frames = features_of(log_mel, spec)
    pieces = [frames[start : start + spec.window_frames] for start in range(0, len(frames), spec.window_frames)]
    levelled = np.concatenate([remove_level(piece, spec) for piece in pieces])
    return levelled[voiced].sum(axis=0, dtype=np.float64), int(voiced.sum())


@dataclass(frozen=True, slots=True)
class DrawnMean:
    """The mean of a voice, float32 [columns], and its weight in [0, 1) against that of all speakers."""

    mean: F32
    weight: float


class VoiceMeans:
    """The means of the voiced frames of all recordings, by version, and of all speakers."""

    def __init__(self, sums: F64, voiced: I64, voices: Sequence[Utterance], versions: int) -> None:
        self._sums = sums.reshape(len(voices), versions, -1)
        self._voiced = voiced.reshape(len(voices), versions)
        speakers = np.array([voice.speaker for voice in voices])
        self._rows = {speaker: np.flatnonzero(speakers == speaker) for speaker in sorted(set(speakers.tolist()))}
        self._speaker_of = speakers.tolist()

    def draw(self, row: int, version: int, rng: np.random.Generator) -> DrawnMean:
        """Return the mean of up to `MAX_RECORDINGS` random recordings of the speaker of `row`, in the same version."""
        rows = self._rows[self._speaker_of[row]]
        chosen = rng.choice(rows, min(len(rows), int(rng.integers(1, MAX_RECORDINGS + 1))), replace=False)
        frames = int(self._voiced[chosen, version].sum())
        mean = self._sums[chosen, version].sum(axis=0) / max(1, frames)
        return DrawnMean(mean.astype(np.float32), frames / (frames + PRIOR_FRAMES))

    def info(self, rows: I64) -> BaselineInfo:
        """Return the mean over the speakers of `rows`, with the same weight for each corpus, and the limit of a difference."""
        by_corpus: dict[str, list[F64]] = {}
        trained = set(rows.tolist())
        for speaker, own in self._rows.items():
            chosen = [row for row in own.tolist() if row in trained]
            if chosen:
                mean = self._sums[chosen, 0].sum(axis=0) / max(1, self._voiced[chosen, 0].sum())
                by_corpus.setdefault(speaker.split("/")[0], []).append(mean)
        corpus_means = [np.mean(means, axis=0) for means in by_corpus.values()]
        deviation = np.std([mean for means in by_corpus.values() for mean in means], axis=0)
        limit = LIMIT_DEVIATIONS * np.maximum(deviation, 1e-3)
        return BaselineInfo(np.mean(corpus_means, axis=0).astype(np.float32), limit.astype(np.float32))
