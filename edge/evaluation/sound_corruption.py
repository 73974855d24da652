"""Corruptions of voice recordings: each takes samples float32 [N] at 16 kHz and returns a corrupted copy."""

from __future__ import annotations

import numpy as np

from moodring.evaluation.corruption import Corruption
from moodring.types import F32, SAMPLE_RATE_HZ

FULL_SCALE = 32_767.0  # of 16-bit samples


def attenuate(samples: F32, attenuation_db: float, _rng: np.random.Generator) -> F32:
    """Lower the level by `attenuation_db` and quantise to sixteen bits."""
    gain = 10.0 ** (-attenuation_db / 20.0)
    return np.asarray(np.round(samples * (gain * FULL_SCALE)) / FULL_SCALE, np.float32)


def add_reverberation(samples: F32, decay_s: float, rng: np.random.Generator) -> F32:
    """Add the reverberation of a distant speaker, with as much reflected as direct energy; keep the level.

    The reflections are exponentially decaying noise (Polack 1988) that falls by 60 dB in `decay_s`.
    """
    time_s = np.arange(round(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(time_s.size) * 10.0 ** (-3.0 * time_s / decay_s)
    tail /= np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = samples.size + tail.size - 1
    reverberant = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: samples.size]
    level = np.sqrt(float(np.mean(samples.astype(np.float64) ** 2)) / max(float(np.mean(reverberant**2)), 1e-20))
    return np.asarray(reverberant * level, np.float32)


def band_limit(samples: F32, cutoff_hz: float, _rng: np.random.Generator) -> F32:
    """Limit the band as a telephone does: -12 dB per octave below 300 Hz, -24 dB above `cutoff_hz` (Butterworth 1930)."""
    frequency_hz = np.fft.rfftfreq(samples.size, 1.0 / SAMPLE_RATE_HZ)
    low = 1.0 / np.sqrt(1.0 + (300.0 / np.maximum(frequency_hz, 1.0)) ** 4)
    high = 1.0 / np.sqrt(1.0 + (frequency_hz / cutoff_hz) ** 8)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * low * high, samples.size), np.float32)


def crop_loudest(samples: F32, duration_s: float, _rng: np.random.Generator) -> F32:
    """Return the section of `duration_s` with the most energy, as a shorter window would hold it."""
    count = min(samples.size, round(duration_s * SAMPLE_RATE_HZ))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[count:] - energy[: samples.size - count + 1]))
    return samples[start : start + count]


SOUND_CORRUPTIONS: dict[str, Corruption[F32]] = {
    "quiet microphone": Corruption("dB less", (20, 30, 40), attenuate),
    "far microphone": Corruption("s of reverberation", (0.3, 0.6, 1.0), add_reverberation),
    "telephone": Corruption("Hz at most", (7000, 3400), band_limit),
    "less to hear": Corruption("s of the clip", (3.0, 2.0, 1.5, 1.0, 0.5), crop_loudest),
}
