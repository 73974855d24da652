"""What goes wrong with a recording of a voice: float32 [N] at 16 kHz in, a disturbed copy out. Strengths say their unit."""

from __future__ import annotations

import numpy as np

from moodring.evaluation.corruption import Corruption
from moodring.types import F32

RATE_HZ = 16_000
FULL_SCALE = 32_767.0


def attenuate(samples: F32, attenuation_db: float, _rng: np.random.Generator) -> F32:
    """Record at a lower level, with sixteen bits to tell it in."""
    gain = 10.0 ** (-attenuation_db / 20.0)
    return np.asarray(np.round(samples * (gain * FULL_SCALE)) / FULL_SCALE, np.float32)


def add_reverberation(samples: F32, decay_s: float, rng: np.random.Generator) -> F32:
    """Stand far from the microphone: as much sound comes by way of the walls as straight, and falls 60 dB in `decay_s`.

    The tail is noise under an exponential (Polack 1988); the level is kept.
    """
    time_s = np.arange(round(decay_s * RATE_HZ)) / RATE_HZ
    tail = rng.standard_normal(time_s.size) * 10.0 ** (-3.0 * time_s / decay_s)
    tail /= np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = samples.size + tail.size - 1
    far = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: samples.size]
    level = np.sqrt(float(np.mean(samples.astype(np.float64) ** 2)) / max(float(np.mean(far**2)), 1e-20))
    return np.asarray(far * level, np.float32)


def band_limit(samples: F32, cutoff_hz: float, _rng: np.random.Generator) -> F32:
    """Lose what a telephone loses: 12 dB an octave below 300 Hz, 24 dB an octave above a frequency (Butterworth 1930)."""
    frequency_hz = np.fft.rfftfreq(samples.size, 1.0 / RATE_HZ)
    low = 1.0 / np.sqrt(1.0 + (300.0 / np.maximum(frequency_hz, 1.0)) ** 4)
    high = 1.0 / np.sqrt(1.0 + (frequency_hz / cutoff_hz) ** 8)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * low * high, samples.size), np.float32)


def crop_loudest(samples: F32, duration_s: float, _rng: np.random.Generator) -> F32:
    """Keep the loudest stretch of this length: what a shorter window would have held."""
    count = min(samples.size, round(duration_s * RATE_HZ))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[count:] - energy[: samples.size - count + 1]))
    return samples[start : start + count]


SOUND_CORRUPTIONS: dict[str, Corruption[F32]] = {
    "quiet microphone": Corruption("dB less", (20, 30, 40), attenuate),
    "far microphone": Corruption("s of reverberation", (0.3, 0.6, 1.0), add_reverberation),
    "telephone": Corruption("Hz at most", (7000, 3400), band_limit),
    "less to hear": Corruption("s of the clip", (3.0, 2.0, 1.5, 1.0, 0.5), crop_loudest),
}
