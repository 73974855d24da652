"""How high a voice is and how much of a frame is voice, from the power spectrum that the cepstra come from anyway.

The inverse transform of a power spectrum is the frame's autocorrelation (Wiener and Khinchin); divided by the window's own,
its highest value says how periodic the frame is, and the lag of that value what its period is (Boersma 1993). At the lags
wanted this is one more matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.features.audio.filterbank import analysis_window
from moodring.features.audio.matmul import ChunkInvariantMatmul, MatmulStep
from moodring.features.audio.spectrum import Kernel
from moodring.features.spec import MfccSpec

REFERENCE_HZ = 180.0  # between the voices of men and of women
MIN_PITCH_HZ, MAX_PITCH_HZ = 75.0, 500.0
BAND_HZ = 2500.0  # the harmonics above are weak, and noise is not
MIN_WINDOW_AUTOCORRELATION = 0.15  # where the window's own autocorrelation is smaller, little of the frame is left to compare
OCTAVE_COST = 0.03  # against the double and triple of the period, which fit as well (Boersma's)
UNVOICED_CORRELATION, VOICED_CORRELATION = 0.3, 0.8  # of the normalised autocorrelation
_TINY = 1e-3  # of a frame's power in 16-bit units: digital silence

Array = NDArray[Any]


class PitchEstimator:
    """Reads the first rows of a kernel's `power`; writes [count, 2]: octaves above REFERENCE_HZ times voicing, and voicing."""

    def __init__(self, spec: MfccSpec, kernel: Kernel, rows: int) -> None:
        dtype = kernel.power.dtype
        lags = np.arange(round(spec.rate_hz / MAX_PITCH_HZ), round(spec.rate_hz / MIN_PITCH_HZ) + 1)
        self._octaves = np.log2(spec.rate_hz / lags / REFERENCE_HZ).astype(dtype)
        self._cost = (OCTAVE_COST * np.log2(lags / lags[0])).astype(dtype)
        matrix = kernel.pack(self._weights(spec, lags))
        used = int(np.flatnonzero(matrix.any(axis=1))[-1]) + 1  # the columns of `power` below BAND_HZ
        self._to_lags = ChunkInvariantMatmul(matrix[:used], rows)
        self._power = kernel.power[:, :used]
        self._correlation = np.zeros((rows, len(lags) + 1), dtype)  # and the power in the band

    @staticmethod
    def _weights(spec: MfccSpec, lags: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return [lags + 1, bins]: each lag's cosines over the window's own autocorrelation, then what adds up the power."""
        bins = np.arange(spec.fft_size // 2 + 1)
        weight = np.where((bins == 0) | (bins == spec.fft_size // 2), 1.0, 2.0)
        weight *= bins * spec.rate_hz / spec.fft_size <= BAND_HZ
        spectrum = np.abs(np.fft.rfft(analysis_window(spec), 2 * spec.fft_size)) ** 2
        window_autocorrelation = np.fft.irfft(spectrum)[: spec.fft_size]
        window_autocorrelation = np.maximum(window_autocorrelation / window_autocorrelation[0], MIN_WINDOW_AUTOCORRELATION)
        cosines = np.cos(2.0 * np.pi * np.outer(lags, bins) / spec.fft_size) / window_autocorrelation[lags][:, None]
        return np.vstack([cosines * weight, weight])

    def plan(self, count: int) -> list[MatmulStep]:
        return self._to_lags.plan(self._power, self._correlation, count)

    def estimate(self, steps: list[MatmulStep], out: Array) -> None:
        """Write the pitch and the voicing of the frames of `plan`, one row each."""
        for rows, matrix, product in steps:
            np.dot(rows, matrix, product)
        count = len(out)
        correlation, power = self._correlation[:count, :-1], self._correlation[:count, -1:]
        np.divide(correlation, np.maximum(power, _TINY), out=correlation)
        np.subtract(correlation, self._cost, out=correlation)
        voicing = (correlation.max(axis=1) - UNVOICED_CORRELATION) / (VOICED_CORRELATION - UNVOICED_CORRELATION)
        np.maximum(voicing, 0.0, out=voicing)
        np.minimum(voicing, 1.0, out=out[:, 1])
        np.multiply(self._octaves[correlation.argmax(axis=1)], out[:, 1], out=out[:, 0])
