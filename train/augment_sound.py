"""Chance, applied to sound: windows, speed, noise, gain, channel, tempo, mel shift, masks; and sounds that are no speech.

Sound becomes cepstra only through edge.features; what follows is linear algebra on those cepstra.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.features.filterbank import cepstral_transform
from edge.features.spec import SpeechSpec
from edge.features.speech_window import fit_window, open_mfcc
from train.recipe import SpeechRecipe
from train.voices import Voice

F32 = NDArray[np.float32]

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
        self._mfcc = open_mfcc(spec)
        log_mel = spec.mfcc.output == "log_mel"
        self._to_features = np.eye(spec.mfcc.filters) if log_mel else cepstral_transform(spec.mfcc)  # [filters, features]
        self._to_mel = np.linalg.pinv(self._to_features)  # [features, filters]

    def voice(self, voice: Voice, rng: np.random.Generator) -> F32:
        """Draw one window of a recording, changed as a recipe allows."""
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
        return self._window(np.clip(samples * gain, -1.0, 1.0).astype(np.float32), frames, rng)

    def nonspeech(self, rng: np.random.Generator) -> F32:
        """Draw a window of silence, noise, recorded sounds or music-like tones."""
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
        return self._window(sound.astype(np.float32), frames, rng)

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

    def _window(self, samples: F32, most_frames: int, rng: np.random.Generator) -> F32:
        """Sound to a network input, of its last frames, with the changes that act on cepstra."""
        self._mfcc.reset()
        cepstra = self._mfcc.push(samples)[-most_frames:]
        tempo = 1.0 + rng.uniform(-self.recipe.tempo, self.recipe.tempo)
        frames = len(cepstra)
        count = min(self.spec.window_frames, max(1, round(frames * tempo)))
        at = np.linspace(max(0.0, frames - 1 - (count - 1) / tempo), frames - 1, count)  # the newest frames stay
        low = np.minimum(at.astype(np.int64), max(0, frames - 2))
        share = (at - low)[:, None]
        cepstra = cepstra[low] * (1 - share) + cepstra[np.minimum(low + 1, frames - 1)] * share
        mel = self._warp_mel(cepstra @ self._to_mel, rng)  # [count, filters]
        mel += self._channel(rng)
        self._mask(mel, rng)
        return fit_window((mel @ self._to_features).astype(np.float32), self.spec)

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
