"""Random augmentation of log mel energies: tempo, vocal tract length, channel response, masks.

It costs little, so that every draw of a window applies it again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moodring.features.audio.baseline import BaselineInfo
from moodring.features.audio.filterbank import cepstral_transform
from moodring.features.audio.window import make_window_input
from moodring.features.spec import SpeechSpec
from moodring.train.data.speaker_means import DrawnMean
from moodring.train.recipe import SpeechRecipe
from moodring.types import F32


class MelAugmenter:
    """Turns log mel energies, with pitch if the spec has it, into augmented network inputs.

    Input: float32 [1..window_frames, filters + 2 with pitch]. Output: float32 [window_frames, columns].
    """

    def __init__(self, recipe: SpeechRecipe, spec: SpeechSpec, baseline: BaselineInfo | None = None) -> None:
        self.recipe = recipe
        self.spec = spec
        self._baseline = baseline
        filters = spec.mfcc.filters
        log_mel = spec.mfcc.output == "log_mel"
        features = np.eye(filters) if log_mel else cepstral_transform(spec.mfcc)
        self._to_features = features.astype(np.float32)  # [filters, features]
        self._from_features = np.linalg.pinv(features).astype(np.float32)

    def windows(self, mels: Sequence[F32], rng: np.random.Generator, means: Sequence[DrawnMean | None] | None = None) -> F32:
        """Return one augmented window of each input, float32 [N, window_frames, columns].

        `means` holds the mean of the voice whose baseline is subtracted, or None, for each input.
        """
        drawn = means or [None] * len(mels)
        return np.stack([self._augment(mel, rng, mean) for mel, mean in zip(mels, drawn, strict=True)])

    def _augment(self, mel: F32, rng: np.random.Generator, mean: DrawnMean | None) -> F32:
        tempo = np.float32(np.exp(rng.uniform(-self.recipe.tempo, self.recipe.tempo)))
        frames = len(mel)
        count = min(self.spec.window_frames, max(1, round(frames * float(tempo))))
        if tempo == 1.0:
            stretched = mel[-count:].copy()
        else:
            at = (frames - 1) - np.arange(count - 1, -1, -1, dtype=np.float32) / tempo  # keep the newest frames
            np.clip(at, 0, frames - 1, out=at)
            low = at.astype(np.int64)
            share = (at - low)[:, None]
            stretched = mel[low]
            stretched += share * (mel[np.minimum(low + 1, frames - 1)] - stretched)
        self._mask(stretched, rng)
        # One product covers the steps that are linear in a frame: warp and transform. The channel response is an offset.
        transform = self._warp(rng) @ self._to_features
        channel = self._channel(rng) @ self._to_features
        filters = self.spec.mfcc.filters
        features = stretched[:, :filters] @ transform + channel
        window = make_window_input(np.concatenate([features, stretched[:, filters:]], axis=1), self.spec)
        if mean is not None:
            window -= self._offset(mean, transform, channel)
        return window

    def _offset(self, drawn: DrawnMean, transform: F32, channel: F32) -> F32:
        """Return the baseline that the runtime would subtract, float32 [columns], of a voice heard through the same changes."""
        if self._baseline is None:
            raise ValueError("a baseline is drawn, but the augmentation was not given that of all speakers")
        count = self.spec.features
        mean = drawn.mean.copy()
        mean[:count] = drawn.mean[:count] @ self._from_features @ transform + channel
        # The level of a window is removed after these changes.
        if self.spec.mfcc.output == "log_mel":
            mean[:count] += drawn.mean[:count].mean() - mean[:count].mean()
        else:
            mean[0] = drawn.mean[0]
        offset = drawn.weight * (mean - self._baseline.mean)
        return np.asarray(np.clip(offset, -self._baseline.limit, self._baseline.limit), np.float32)

    def _warp(self, rng: np.random.Generator) -> F32:
        """Return a matrix [filters, filters] that scales and shifts the mel axis, as the vocal tract length does.

        Each of its columns sums to 1.
        """
        filters = self.spec.mfcc.filters
        scale = np.exp(rng.uniform(-self.recipe.mel_scale, self.recipe.mel_scale))
        shift = rng.uniform(-self.recipe.mel_shift, self.recipe.mel_shift)
        at = np.clip(np.arange(filters) * scale + shift, 0, filters - 1)
        low = np.minimum(at.astype(np.int64), filters - 2)
        share = (at - low).astype(np.float32)
        warp = np.zeros((filters, filters), np.float32)
        columns = np.arange(filters)
        warp[low, columns] = 1 - share
        warp[low + 1, columns] = share
        return warp

    def _channel(self, rng: np.random.Generator) -> F32:
        """Return a random smooth frequency response of a few dB, [filters], as the natural logarithm of power.

        It models the microphone and the room.
        """
        filters = self.spec.mfcc.filters
        response = np.interp(np.arange(filters), np.linspace(0, filters - 1, 5), rng.normal(0, 0.5, 5))
        return response.astype(np.float32)

    def _mask(self, mel: F32, rng: np.random.Generator) -> None:
        """Replace random frequency bands and time spans by their mean, in place (SpecAugment, Park et al. 2019)."""
        frames, filters = len(mel), self.spec.mfcc.filters
        for _ in range(int(rng.integers(0, self.recipe.masks + 1))):
            width = int(rng.integers(1, 8))
            start = int(rng.integers(0, filters - width))
            mel[:, start : start + width] = mel[:, start : start + width].mean(axis=0)
        for _ in range(int(rng.integers(0, self.recipe.masks + 1))):
            width = int(rng.integers(1, max(2, frames // 8)))
            start = int(rng.integers(0, frames - width + 1))
            mel[start : start + width] = mel.mean(axis=0)
