"""Streaming high-pass filter that removes a DC offset, rumble and the fundamental of mains hum (50 or 60 Hz) from sound.

An inverse Chebyshev filter (Chebyshev type II) of order 5: it attenuates by 40 dB below 0.62 of the cut-off frequency and
by 3 dB at the cut-off frequency, and has a zero at DC. The design uses the bilinear transform (Oppenheim and Schafer,
"Discrete-time signal processing", chapter 7). A recursion over samples would be slow in Python, so that the filter processes
blocks: one matrix product gives the response to the samples of a block, another one the response to the state before the block
(block state-space filter, Barnes and Shinnaka 1980). The state has one complex number for each pair of poles.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.features.audio.matmul import ChunkInvariantMatmul
from moodring.features.spec import MfccSpec

ORDER = 5
STOP_BAND_DB = 40.0
CHUNK_BLOCKS = 48  # a multiple of every batch size that `ChunkInvariantMatmul` can select
REAL_POLE = 1e-12  # a smaller imaginary part is rounding

_INT16 = np.dtype(np.int16)
C128 = NDArray[np.complex128]


def design(cutoff_hz: float, rate_hz: int) -> tuple[C128, C128, float]:
    """Return the zeros [5], the poles [5] and the gain of the filter in the z plane. The response is 1 at half the rate."""
    ripple = math.sqrt(10.0 ** (STOP_BAND_DB / 10.0) - 1.0)  # 1 / epsilon
    angles = math.pi * (2 * np.arange(ORDER) + 1) / (2 * ORDER)
    mu = math.asinh(ripple) / ORDER
    low_pass_poles = 1.0 / (-math.sinh(mu) * np.sin(angles) + 1j * math.cosh(mu) * np.cos(angles))
    # In the low-pass prototype, one zero is at infinity; the transform s -> edge / s moves it to DC.
    edge = 2.0 * rate_hz * math.tan(math.pi * cutoff_hz / rate_hz) / math.cosh(math.acosh(ripple) / ORDER)
    cosines = np.where(np.arange(ORDER) == ORDER // 2, 0.0, np.cos(angles))
    zeros, poles = -1j * edge * cosines, edge / low_pass_poles
    zeros, poles = (2 * rate_hz + zeros) / (2 * rate_hz - zeros), (2 * rate_hz + poles) / (2 * rate_hz - poles)
    gain = float((np.prod(-1 - poles) / np.prod(-1 - zeros)).real)
    return zeros, poles, gain


class HighPass:
    """The high-pass filter of one stream. Any chunking of the same sound gives the same output, bit for bit.

    The blocks end where analysis windows end, so that the filter adds no delay to a window. The filter starts as if the mean of
    the first block had preceded the sound: a DC offset then makes no transient.
    """

    def __init__(self, spec: MfccSpec, dtype: type[np.float32 | np.float64] = np.float32) -> None:
        zeros, poles, gain = design(spec.high_pass_hz, spec.rate_hz)
        size = self._block_samples = spec.hop_samples // 2 if spec.hop_samples % 2 == 0 else spec.hop_samples
        self._padding = -spec.window_samples % size  # before the first block
        residues = gain * np.array([np.prod(p - zeros) / np.prod(p - np.delete(poles, i)) for i, p in enumerate(poles)])
        modes = np.flatnonzero(poles.imag > -REAL_POLE)  # of each pair of poles, the one with the positive imaginary part
        weights = residues[modes] * np.where(poles[modes].imag > REAL_POLE, 2.0, 1.0)  # both poles of a pair
        self._decay = [complex(pole**size) for pole in poles[modes]]
        self._steady = [complex(1.0 / (1.0 - pole)) for pole in poles[modes]]  # the state after a long input of ones
        powers = poles[modes, None] ** np.arange(size)  # [modes, size]
        impulse = np.concatenate([[gain], (weights @ powers).real[:-1]])
        delay = np.arange(size) - np.arange(size)[:, None]
        to_output = np.where(delay >= 0, impulse[np.maximum(delay, 0)], 0.0)
        to_state = np.ascontiguousarray(powers[:, ::-1].T).view(np.float64)  # [size, 2 modes]: real, imaginary, real, ...
        from_state = np.ascontiguousarray((weights[:, None] * powers).conj().T).view(np.float64).T  # Re(a b) = a . conj(b)
        self._samples = np.zeros((CHUNK_BLOCKS, size), dtype)
        self._products = np.zeros((CHUNK_BLOCKS, size + 2 * len(modes)), dtype)
        self._states = np.zeros((CHUNK_BLOCKS, len(modes)), np.complex64 if dtype is np.float32 else np.complex128)
        self._from_states = np.zeros((CHUNK_BLOCKS, size), dtype)
        self._output = np.zeros((CHUNK_BLOCKS, size), dtype)
        self._sample_product = ChunkInvariantMatmul(np.hstack([to_output, to_state]).astype(dtype), CHUNK_BLOCKS)
        self._state_product = ChunkInvariantMatmul(from_state.astype(dtype), CHUNK_BLOCKS)
        self._from_int16 = np.array(1.0 / 32768.0, dtype)
        self.reset()

    def reset(self) -> None:
        """Start a new signal."""
        self._filled = self._padding
        self._state: list[complex] | None = None  # None before the first block

    def push(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Accept samples [N], int16 or float in [-1, 1]; return the filtered samples [M] of the blocks that they complete.

        The result is a view, valid until the next call.
        """
        blocks = (self._filled + samples.size) // self._block_samples
        if blocks > len(self._output):
            self._output = np.zeros((blocks, self._block_samples), self._output.dtype)
        start = self._padding if self._state is None else 0
        pending, done, position = self._samples.reshape(-1), 0, 0
        while position < samples.size:
            segment = samples[position : position + pending.size - self._filled]
            new = pending[self._filled : self._filled + segment.size]
            new[:] = segment
            if segment.dtype == _INT16:
                np.multiply(new, self._from_int16, new)
            position += segment.size
            self._filled += segment.size
            count, remaining = divmod(self._filled, self._block_samples)
            if count:
                self._filter(count, self._output[done : done + count])
                done += count
                pending[:remaining] = pending[self._filled - remaining : self._filled]
                self._filled = remaining
        end = done * self._block_samples
        return self._output.reshape(-1)[min(start, end) : end]

    def _filter(self, count: int, out: NDArray[Any]) -> None:
        """Filter the first `count` blocks of the pending samples into `out` [count, block_samples]."""
        if self._state is None:
            before = float(self._samples[0, self._padding :].mean(dtype=np.float64))
            self._samples[0, : self._padding] = before
            self._state = [before * steady for steady in self._steady]
        for rows, matrix, product in self._sample_product.plan(self._samples, self._products, count):
            np.dot(rows, matrix, product)
        inputs = self._products[:count, self._block_samples :].view(self._states.dtype)
        first, second, third = self._state
        first_decay, second_decay, third_decay = self._decay
        states = []
        for first_input, second_input, third_input in inputs.tolist():
            states.append((first, second, third))
            first = first * first_decay + first_input
            second = second * second_decay + second_input
            third = third * third_decay + third_input
        self._state = [first, second, third]
        self._states[:count] = states
        for rows, matrix, product in self._state_product.plan(self._states.view(out.dtype), self._from_states, count):
            np.dot(rows, matrix, product)
        np.add(self._products[:count, : self._block_samples], self._from_states[:count], out)
