"""Constant tables of the speech front end: window functions, mel filters, and DCT with liftering."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from moodring.features.spec import MfccSpec

F64 = NDArray[np.float64]

# Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, logarithmic above.
_SLANEY_LINEAR_HZ = 200.0 / 3.0
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_KNEE_MEL = _SLANEY_KNEE_HZ / _SLANEY_LINEAR_HZ
_SLANEY_LOG_STEP = math.log(6.4) / 27.0


def hz_to_mel(hz: float, scale: str) -> float:
    """Return the mel value of a frequency in Hz on the `htk` scale, 2595 log10(1 + f / 700), or on the `slaney` scale."""
    if scale == "htk":
        return 2595.0 * math.log10(1.0 + hz / 700.0)
    if hz < _SLANEY_KNEE_HZ:
        return hz / _SLANEY_LINEAR_HZ
    return _SLANEY_KNEE_MEL + math.log(hz / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP


def mel_to_hz(mel: F64, scale: str) -> F64:
    """Return the frequencies in Hz of an array of mel values: the inverse of `hz_to_mel`."""
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    logarithmic = _SLANEY_KNEE_HZ * np.exp(_SLANEY_LOG_STEP * (mel - _SLANEY_KNEE_MEL))
    return np.where(mel < _SLANEY_KNEE_MEL, mel * _SLANEY_LINEAR_HZ, logarithmic)


def band_edges_hz(spec: MfccSpec) -> F64:
    """Return the corner frequencies of the filters in Hz, ascending, float64 [filters + 2].

    Filter i rises from edge i to its centre at edge i + 1 and falls to edge i + 2.
    """
    low, high = hz_to_mel(spec.low_hz, spec.mel_scale), hz_to_mel(spec.high_hz, spec.mel_scale)
    return mel_to_hz(np.linspace(low, high, spec.filters + 2), spec.mel_scale)


def mel_filters(spec: MfccSpec) -> F64:
    """Return triangular filters of unit height, float64 [filters, fft_size // 2 + 1].

    As in python_speech_features, the corners are rounded to whole bins, so a filter narrower than one bin can be empty.
    """
    bins = np.floor((spec.fft_size + 1) * band_edges_hz(spec) / spec.rate_hz).astype(int)
    filters = np.zeros((spec.filters, spec.fft_size // 2 + 1))
    for row, (left, centre, right) in enumerate(zip(bins[:-2], bins[1:-1], bins[2:], strict=True)):
        rising, falling = np.arange(left, centre), np.arange(centre, right)
        filters[row, rising] = (rising - left) / max(centre - left, 1)
        filters[row, falling] = (right - falling) / max(right - centre, 1)
    return filters


def cepstral_transform(spec: MfccSpec) -> F64:
    """Return the product of orthonormal DCT-II and lifter, 1 + L/2 sin(pi n / L), float64 [filters, cepstra]."""
    rows = np.arange(spec.filters)[:, None] + 0.5
    columns = np.arange(spec.cepstra)[None, :]
    dct = np.cos(np.pi * rows * columns / spec.filters) * math.sqrt(2.0 / spec.filters)
    dct[:, 0] = math.sqrt(1.0 / spec.filters)
    if spec.lifter:
        dct *= 1.0 + spec.lifter / 2.0 * np.sin(np.pi * np.arange(spec.cepstra) / spec.lifter)
    return np.asarray(dct)


def analysis_window(spec: MfccSpec) -> F64:
    """Return the window function of one frame, float64 [window_samples]."""
    if spec.window == "rectangular":
        return np.ones(spec.window_samples)
    return np.hamming(spec.window_samples) if spec.window == "hamming" else np.hanning(spec.window_samples)


def bands_within(spec: MfccSpec, low_hz: float, high_hz: float) -> slice:
    """Return the slice of filters whose centres lie within a frequency range; all filters if there is none."""
    centres_hz = band_edges_hz(spec)[1:-1]
    inside = np.flatnonzero((centres_hz >= low_hz) & (centres_hz <= high_hz))
    first, last = (inside[0], inside[-1]) if inside.size else (0, spec.filters - 1)
    return slice(int(first), int(last) + 1)


def full_scale_db(spec: MfccSpec) -> float:
    """Return the energy of a full-scale sine in one frame: its summed power spectrum in dB, the reference of all levels."""
    return 10.0 * math.log10(0.25 * spec.sample_scale**2 * float(np.sum(analysis_window(spec) ** 2)))
