"""Random augmentation of sound: speed, room, noise, level, band limits, codecs, lost packets, hum; and non-speech sounds."""

from __future__ import annotations

import numpy as np

from moodring.features.spec import SpeechSpec
from moodring.train.data.codecs import CODECS, lose_packets, pass_through_codec, random_bits_per_s
from moodring.train.recipe import SpeechRecipe
from moodring.types import F32

NONSPEECH_S = 5.0
RT60_S = (0.1, 0.7)  # time in which the reverberation falls by 60 dB
DIRECT_TO_REVERBERANT_DB = (-3.0, 15.0)
MAX_LOST_SHARE = 0.15  # of packets
HUM_DB = (-50.0, -20.0)  # relative to full scale
MAX_OFFSET = 0.1  # of full scale


def resample(samples: F32, count: int) -> F32:
    """Resample samples [N] to `count` samples by linear interpolation, which changes pitch and tempo together."""
    return np.interp(np.linspace(0, len(samples) - 1, count), np.arange(len(samples)), samples).astype(np.float32)


def colored_noise(count: int, exponent: float, rng: np.random.Generator) -> F32:
    """Return `count` samples of noise with standard deviation 1 and power proportional to frequency ** -exponent.

    The exponent is 0 for white, 1 for pink, 2 for brown noise.
    """
    spectrum = np.fft.rfft(rng.standard_normal(count, dtype=np.float32))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** (exponent / 2)
    noise = np.fft.irfft(spectrum, count)
    return (noise / max(1e-9, float(noise.std()))).astype(np.float32)


def random_excerpt(samples: F32, count: int, rng: np.random.Generator) -> F32:
    """Return `count` samples from a random position; a shorter recording is repeated."""
    if len(samples) < count:
        samples = np.tile(samples, -(-count // len(samples)))
    start = int(rng.integers(0, len(samples) - count + 1))
    return samples[start : start + count]


def add_reverberation(samples: F32, rate_hz: int, rng: np.random.Generator) -> F32:
    """Convolve samples [N] with a random room response: the direct sound and exponentially decaying noise (Polack 1988)."""
    decay_s = rng.uniform(*RT60_S)
    count = int(decay_s * rate_hz)
    tail = rng.standard_normal(count) * 10.0 ** (-3.0 * np.arange(count) / count)
    tail *= 10.0 ** (-rng.uniform(*DIRECT_TO_REVERBERANT_DB) / 20.0) / np.sqrt(np.sum(tail**2))
    tail[0] += 1.0
    size = 1 << (len(samples) + count - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)].astype(np.float32)


def limit_band(samples: F32, rate_hz: int, rng: np.random.Generator) -> F32:
    """Apply a random band-pass to samples [N], as telephones, codecs and small microphones do.

    The corners lie in 40..350 Hz and 3000..7500 Hz, with slopes of 12 and 36 dB per octave.
    """
    size = 1 << (len(samples) - 1).bit_length()
    hz = np.fft.rfftfreq(size, 1.0 / rate_hz)
    low_hz, high_hz = rng.uniform(40, 350), rng.uniform(3000, 7500)
    gain = 1.0 / np.sqrt((1.0 + (low_hz / np.maximum(hz, 1.0)) ** 4) * (1.0 + (hz / high_hz) ** 12))
    return np.fft.irfft(np.fft.rfft(samples, size) * gain, size)[: len(samples)].astype(np.float32)


def add_hum(samples: F32, rate_hz: int, rng: np.random.Generator) -> F32:
    """Add mains hum with harmonics, at 50 or 60 Hz and a random level, and a constant offset to samples [N]."""
    mains_hz = 50.0 if rng.random() < 0.5 else 60.0
    time_s = np.arange(len(samples)) / rate_hz
    hum = np.zeros(len(samples))
    for harmonic in range(1, 8):
        amplitude = rng.uniform(0, 1) / harmonic
        hum += amplitude * np.sin(2 * np.pi * mains_hz * harmonic * time_s + rng.uniform(0, 2 * np.pi))
    hum *= 10.0 ** (rng.uniform(*HUM_DB) / 20.0) / max(1e-9, float(np.abs(hum).max()))
    return np.asarray(samples + hum + rng.uniform(-MAX_OFFSET, MAX_OFFSET), np.float32)


class SoundAugmenter:
    """Augments recordings of speech and generates non-speech sounds, float32 [N]. `noises` are recorded sounds to mix in."""

    def __init__(self, recipe: SpeechRecipe, spec: SpeechSpec, noises: list[F32]) -> None:
        self.recipe = recipe
        self.noises = noises
        self._rate_hz = spec.mfcc.rate_hz

    def augment_speech(self, samples: F32, rng: np.random.Generator) -> tuple[F32, float]:
        """Return a recording, augmented within the limits of the recipe, and its speed relative to the original."""
        recipe = self.recipe
        speed = float(np.exp(rng.uniform(-recipe.speed, recipe.speed)))
        augmented = resample(samples, round(len(samples) / speed))
        if rng.random() < recipe.room:
            augmented = add_reverberation(augmented, self._rate_hz, rng)
        if rng.random() < recipe.noise:
            augmented = augmented + self._noise_like(augmented, rng)
        if rng.random() < recipe.band_limit:
            augmented = limit_band(augmented, self._rate_hz, rng)
        gain = 10.0 ** (rng.uniform(-recipe.gain_db, recipe.gain_db) / 20.0)
        if rng.random() < recipe.hum:
            augmented = add_hum(augmented, self._rate_hz, rng)
        augmented = np.clip(augmented * gain, -1.0, 1.0).astype(np.float32)
        if rng.random() < recipe.codec:
            codec = CODECS[int(rng.integers(len(CODECS)))]
            augmented = pass_through_codec(augmented, self._rate_hz, codec, random_bits_per_s(codec, rng))
        if rng.random() < recipe.packet_loss:
            augmented = lose_packets(augmented, self._rate_hz, rng.uniform(0.0, MAX_LOST_SHARE), rng)
        return augmented, speed

    def nonspeech(self, rng: np.random.Generator) -> F32:
        """Return 5 s of silence, noise, a recorded sound or music-like tones, at a random level."""
        count = int(NONSPEECH_S * self._rate_hz)
        kind = rng.integers(4)
        if kind == 0 and self.noises:
            sound = random_excerpt(self.noises[int(rng.integers(len(self.noises)))], count, rng)
        elif kind == 1:
            sound = self._tones(count, rng)
        elif kind == 2:
            sound = np.zeros(count, np.float32)
        else:
            sound = colored_noise(count, rng.uniform(0, 2), rng)
        level = 10.0 ** (rng.uniform(-60, -6) / 20.0)
        sound = sound * (level / max(1e-6, float(np.abs(sound).max())))
        sound = sound + rng.standard_normal(count, dtype=np.float32) * 10.0 ** (rng.uniform(-100, -70) / 20.0)
        return np.asarray(sound, np.float32)

    def _noise_like(self, samples: F32, rng: np.random.Generator) -> F32:
        """Return noise as long as `samples`, at a random signal-to-noise ratio within the recipe's limits."""
        if self.noises and rng.random() < 0.6:
            noise = random_excerpt(self.noises[int(rng.integers(len(self.noises)))], len(samples), rng)
        else:
            noise = colored_noise(len(samples), rng.uniform(0, 2), rng)
        ratio_db = rng.uniform(*self.recipe.snr_db)
        level = float(samples.std()) * 10.0 ** (-ratio_db / 20.0)
        return np.asarray(noise * (level / max(1e-9, float(noise.std()))), np.float32)

    def _tones(self, count: int, rng: np.random.Generator) -> F32:
        """Return random chords of decaying notes with a few harmonics: similar to music, not to speech."""
        time_s = np.arange(count) / self._rate_hz
        out = np.zeros(count)
        note_s = rng.uniform(0.12, 0.8)
        for start in np.arange(0.0, time_s[-1], note_s):
            since = time_s[int(start * self._rate_hz) :] - start
            envelope = np.exp(-since * rng.uniform(1, 8))
            for _ in range(int(rng.integers(1, 4))):
                pitch_hz = 110.0 * 2 ** (rng.integers(0, 36) / 12)
                for harmonic in range(1, int(rng.integers(2, 6))):
                    out[-len(since) :] += envelope * np.sin(2 * np.pi * pitch_hz * harmonic * since) / harmonic
        return out.astype(np.float32)
