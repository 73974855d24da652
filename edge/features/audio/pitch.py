"""Pitch and voicing of each frame, from the power spectrum that the MFCC computes.

The inverse transform of the power spectrum is the autocorrelation of the frame (Wiener-Khinchin theorem). It is divided by the
autocorrelation of the window function. The maximum of the quotient measures how periodic the frame is, and the lag of the
maximum is the period (Boersma 1993). For the required lags this is one additional matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.features.audio.filterbank import analysis_window
from moodring.features.audio.matmul import ChunkInvariantMatmul, MatmulStep
from moodring.features.audio.spectrum import Kernel
from moodring.features.spec import MfccSpec

REFERENCE_HZ = 180.0  # between typical male and female voices
MIN_PITCH_HZ, MAX_PITCH_HZ = 75.0, 500.0
BAND_HZ = 2500.0  # above it, harmonics are weak relative to noise
MIN_WINDOW_AUTOCORRELATION = 0.15  # lower bound of the divisor: at lags below it, only a small part of the frame overlaps
OCTAVE_COST = 0.03  # Boersma's: per octave of lag, against multiples of the period, which correlate equally well
UNVOICED_CORRELATION, VOICED_CORRELATION = 0.3, 0.8  # normalised autocorrelation at voicing 0 and at voicing 1
_MIN_POWER = 1e-3  # of a frame, in 16-bit units: digital silence is below


class PitchEstimator:
    """Computes pitch and voicing from the `power` of a kernel with `rows` rows.

    The output has two columns: octaves above REFERENCE_HZ multiplied by the voicing, and the voicing in [0, 1].
    """

    def __init__(self, spec: MfccSpec, kernel: Kernel, rows: int) -> None:
        dtype = kernel.power.dtype
        lags = np.arange(round(spec.rate_hz / MAX_PITCH_HZ), round(spec.rate_hz / MIN_PITCH_HZ) + 1)
        self._octaves = np.log2(spec.rate_hz / lags / REFERENCE_HZ).astype(dtype)
        self._cost = (OCTAVE_COST * np.log2(lags / lags[0])).astype(dtype)
        matrix = kernel.pack(self._weights(spec, lags))
        used = int(np.flatnonzero(matrix.any(axis=1))[-1]) + 1  # the columns of `power` below BAND_HZ
        self._to_lags = ChunkInvariantMatmul(matrix[:used], rows)
        self._power = kernel.power[:, :used]
        self._correlation = np.zeros((rows, len(lags) + 1), dtype)  # last column: power below BAND_HZ

    @staticmethod
    def _weights(spec: MfccSpec, lags: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return [lags + 1, bins]: for each lag, cosines over the window's autocorrelation; the last row sums the power."""
        bins = np.arange(spec.fft_size // 2 + 1)
        weight = np.where((bins == 0) | (bins == spec.fft_size // 2), 1.0, 2.0)
        weight *= bins * spec.rate_hz / spec.fft_size <= BAND_HZ
        spectrum = np.abs(np.fft.rfft(analysis_window(spec), 2 * spec.fft_size)) ** 2
        window_autocorrelation = np.fft.irfft(spectrum)[: spec.fft_size]
        window_autocorrelation = np.maximum(window_autocorrelation / window_autocorrelation[0], MIN_WINDOW_AUTOCORRELATION)
        cosines = np.cos(2.0 * np.pi * np.outer(lags, bins) / spec.fft_size) / window_autocorrelation[lags][:, None]
        return np.vstack([cosines * weight, weight])

    def plan(self, count: int) -> list[MatmulStep]:
        """Return the matrix products that `estimate` needs for the first `count` rows of `power`."""
        return self._to_lags.plan(self._power, self._correlation, count)

    def estimate(self, steps: list[MatmulStep], out: NDArray[Any]) -> None:
        """Write pitch and voicing of the first `count` frames to `out` [count, 2]; `steps` is `plan(count)`."""
        for rows, matrix, product in steps:
            np.dot(rows, matrix, product)
        count = len(out)
        correlation, power = self._correlation[:count, :-1], self._correlation[:count, -1:]
        np.divide(correlation, np.maximum(power, _MIN_POWER), out=correlation)
        np.subtract(correlation, self._cost, out=correlation)
        voicing = (correlation.max(axis=1) - UNVOICED_CORRELATION) / (VOICED_CORRELATION - UNVOICED_CORRELATION)
        np.maximum(voicing, 0.0, out=voicing)
        np.minimum(voicing, 1.0, out=out[:, 1])
        np.multiply(self._octaves[correlation.argmax(axis=1)], out[:, 1], out=out[:, 0])
