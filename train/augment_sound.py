"""Chance, applied to sound: windows, speed, noise, gain, channel, tempo, mel shift, masks; and sounds that are no speech.

Sound becomes mel energies only through edge.features; what follows acts on their logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.features.filterbank import cepstral_transform
from edge.features.mfcc import Mfcc
from edge.features.spec import SpeechSpec
from edge.features.speech_window import fit_window, open_noise_reduction
from train.recipe import SpeechRecipe
from train.voices import Voice

F32 = NDArray[np.float32]
Drawn = tuple[F32, int]  # samples, and how many of their last frames make the window

LEAD_SAMPLES = 16_000  # before a window: a stream's noise floor is known before the window begins


def resample(samples: F32, count: int) -> F32:
    """Bring samples [N] to `count` by linear interpolation: pitch and tempo together."""
    return np.interp(np.linspace(0, len(samples) - 1, count), np.arange(len(samples)), samples).astype(np.float32)


def coloured_noise(count: int, exponent: float, rng: np.random.Generator) -> F32:
    """Make noise of unit level whose power falls with frequency to the power `exponent` (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(count, dtype=np.float32))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** (exponent / 2)
    noise = np.fft.irfft(spectrum, count)
    return (noise / max(1e-9, float(noise.std()))).astype(np.float32)


def excerpt(samples: F32, count: int, rng: np.random.Generator) -> F32:
    """Cut `count` samples from a random place; a short recording repeats."""
    if len(samples) < count:
        samples = np.tile(samples, -(-count // len(samples)))
    start = int(rng.integers(0, len(samples) - count + 1))
    return samples[start : start + count]


class SoundAugmenter:
    """Draws network inputs float32 [window_frames, columns] from voices and from sounds that are none."""

    def __init__(self, recipe: SpeechRecipe, spec: SpeechSpec, noises: list[F32]) -> None:
        self.recipe = recipe
        self.spec = spec
        self.noises = noises
        self._mfcc = Mfcc(spec.mfcc)
        log_mel = spec.mfcc.output == "log_mel"
        self._to_features = np.eye(spec.mfcc.filters) if log_mel else cepstral_transform(spec.mfcc)  # [filters, features]

    def voices(self, voices: Sequence[Voice], rng: np.random.Generator) -> F32:
        """Draw one window of each recording, changed as a recipe allows, float32 [N, window_frames, columns]."""
        return self._windows([self._voice(voice, rng) for voice in voices], rng)

    def nonspeech(self, count: int, rng: np.random.Generator) -> F32:
        """Draw windows of silence, noise, recorded sounds or music-like tones, float32 [count, window_frames, columns]."""
        return self._windows([self._nonspeech(rng) for _ in range(count)], rng)

    def _voice(self, voice: Voice, rng: np.random.Generator) -> Drawn:
        spec, mfcc = self.spec, self.spec.mfcc
        end = int(rng.choice(voice.ends))
        longest = min(spec.window_frames, end)
        shortest = min(longest, int(self.recipe.shortest_s * mfcc.rate_hz / mfcc.hop_samples))
        frames = longest if rng.random() < 0.5 else int(rng.integers(shortest, longest + 1))
        speed = 1.0 + rng.uniform(-self.recipe.speed, self.recipe.speed)
        wanted = (frames - 1) * mfcc.hop_samples + mfcc.window_samples
        stop = (end - 1) * mfcc.hop_samples + mfcc.window_samples
        lead = LEAD_SAMPLES + int(rng.integers(mfcc.hop_samples))
        piece = voice.samples[max(0, stop - round((wanted + lead) * speed)) : stop]
        samples = resample(piece, max(mfcc.window_samples, round(len(piece) / speed)))
        if rng.random() < self.recipe.noise:
            samples = samples + self._noise_for(samples, rng)
        gain = 10.0 ** (rng.uniform(-self.recipe.gain_db, self.recipe.gain_db) / 20.0)
        return np.clip(samples * gain, -1.0, 1.0).astype(np.float32), frames

    def _nonspeech(self, rng: np.random.Generator) -> Drawn:
        mfcc = self.spec.mfcc
        frames = int(rng.integers(self.spec.min_frames, self.spec.window_frames + 1))
        count = LEAD_SAMPLES + (frames - 1) * mfcc.hop_samples + mfcc.window_samples
        kind = rng.integers(4)
        if kind == 0 and self.noises:
            sound = excerpt(self.noises[int(rng.integers(len(self.noises)))], count, rng)
        elif kind == 1:
            sound = self._tones(count, rng)
        elif kind == 2:
            sound = np.zeros(count, np.float32)
        else:
            sound = coloured_noise(count, rng.uniform(0, 2), rng)
        level = 10.0 ** (rng.uniform(-60, -6) / 20.0)
        sound = sound * (level / max(1e-6, float(np.abs(sound).max())))
        sound = sound + rng.standard_normal(count, dtype=np.float32) * 10.0 ** (rng.uniform(-100, -70) / 20.0)
        return sound.astype(np.float32), frames

    def _noise_for(self, samples: F32, rng: np.random.Generator) -> F32:
        """Return noise as long as `samples`, at a drawn ratio to their level."""
        if self.noises and rng.random() < 0.6:
            noise = excerpt(self.noises[int(rng.integers(len(self.noises)))], len(samples), rng)
        else:
            noise = coloured_noise(len(samples), rng.uniform(0, 2), rng)
        ratio_db = rng.uniform(*self.recipe.snr_db)
        level = float(samples.std()) * 10.0 ** (-ratio_db / 20.0)
        return (noise * (level / max(1e-9, float(noise.std())))).astype(np.float32)

    def _tones(self, count: int, rng: np.random.Generator) -> F32:
        """Play chords of a few harmonics with decaying notes: like music, unlike speech."""
        time_s = np.arange(count) / self.spec.mfcc.rate_hz
        out = np.zeros(count)
        note_s = rng.uniform(0.12, 0.8)
        for start in np.arange(0.0, time_s[-1], note_s):
            since = time_s - start
            envelope = np.where(since >= 0, np.exp(-np.maximum(since, 0) * rng.uniform(1, 8)), 0.0)
            for _ in range(int(rng.integers(1, 4))):
                pitch_hz = 110.0 * 2 ** (rng.integers(0, 36) / 12)
                for harmonic in range(1, int(rng.integers(2, 6))):
                    out += envelope * np.sin(2 * np.pi * pitch_hz * harmonic * time_s) / harmonic
        return out.astype(np.float32)

    def _windows(self, drawn: Sequence[Drawn], rng: np.random.Generator) -> F32:
        """Sounds to network inputs: the runtime's mel energies and noise reduction, all sounds at once, then chance."""
        mels = []
        for samples, _ in drawn:
            self._mfcc.reset()
            self._mfcc.push(samples)
            mels.append(self._mfcc.log_mel.copy())
        if self.spec.noise_reduction != "none":
            self._reduce_noise(mels)
        return np.stack([self._changed(mel[-frames:], rng) for mel, (_, frames) in zip(mels, drawn, strict=True)])

    def _reduce_noise(self, mels: list[F32]) -> None:
        """Take the noise out of log mel energies [frames, filters] of several sounds, in place."""
        longest = max(map(len, mels))
        energies = np.ones((longest, len(mels), self.spec.mfcc.filters), np.float32)
        for stream, mel in enumerate(mels):
            energies[: len(mel), stream] = np.exp(mel)
        open_noise_reduction(self.spec, (len(mels),)).apply(energies, np.zeros((longest, len(mels))))
        for stream, mel in enumerate(mels):
            np.log(np.maximum(energies[: len(mel), stream], np.finfo(np.float64).eps), out=mel)

    def _changed(self, mel: F32, rng: np.random.Generator) -> F32:
        """Log mel energies [frames, filters] to a network input, with the changes that act on a spectrum."""
        tempo = 1.0 + rng.uniform(-self.recipe.tempo, self.recipe.tempo)
        frames = len(mel)
        count = min(self.spec.window_frames, max(1, round(frames * tempo)))
        at = np.linspace(max(0.0, frames - 1 - (count - 1) / tempo), frames - 1, count)  # the newest frames stay
        low = np.minimum(at.astype(np.int64), max(0, frames - 2))
        share = (at - low)[:, None]
        stretched = mel[low] * (1 - share) + mel[np.minimum(low + 1, frames - 1)] * share
        warped = self._warp_mel(stretched, rng)  # [count, filters]
        warped += self._channel(rng)
        self._mask(warped, rng)
        return fit_window((warped @ self._to_features).astype(np.float32), self.spec)

    def _warp_mel(self, mel: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Shift the spectrum by a fraction of a few filters, as a longer or shorter vocal tract does."""
        filters = mel.shape[1]
        at = np.clip(np.arange(filters) + rng.uniform(-self.recipe.mel_shift, self.recipe.mel_shift), 0, filters - 1)
        low = np.minimum(at.astype(np.int64), filters - 2)
        share = at - low
        return mel[:, low] * (1 - share) + mel[:, low + 1] * share

    def _channel(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw a smooth frequency response of a few dB, as microphones and rooms have: [filters], natural log of power."""
        filters = self.spec.mfcc.filters
        return np.interp(np.arange(filters), np.linspace(0, filters - 1, 5), rng.normal(0, 0.5, 5))

    def _mask(self, mel: NDArray[np.float64], rng: np.random.Generator) -> None:
        """Fill a band of filters or a stretch of time with its mean (Park et al. 2019), in place."""
        frames, filters = mel.shape
        if rng.random() < 0.5:
            width = int(rng.integers(1, 7))
            start = int(rng.integers(0, filters - width))
            mel[:, start : start + width] = mel[:, start : start + width].mean(axis=0)
        if rng.random() < 0.5:
            width = int(rng.integers(1, max(2, frames // 8)))
            start = int(rng.integers(0, frames - width + 1))
            mel[start : start + width] = mel.mean(axis=0)
