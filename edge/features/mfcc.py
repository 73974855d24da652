"""Streaming MFCC: push any number of samples, get the frames that became complete.

The chain is pre-emphasis, framing, window, power spectrum, triangular mel filters, log, DCT-II and liftering as defined by
Davis and Mermelstein (1980) and in the conventions of python_speech_features. A clip is a stream fed once: both go
through `push`. Every table is computed once and every intermediate is preallocated.

In most BLAS libraries the last bits of a row of a matrix product depend on how many rows are computed at once and on the
row's place among them. So products are taken in blocks of a fixed number of rows, one for which `stable_block` has found
every place to give the same bits on this machine: any chunking of a signal then gives the same bits.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.features.spec import MfccSpec
from edge.types import F32

CHUNK_FRAMES = 48
_BLOCKS = (8, 4, 2, 1)
_EPSILON = float(np.finfo(np.float64).eps)  # python_speech_features' guard against log(0)


def mel_filters(spec: MfccSpec) -> NDArray[np.float64]:
    """Return the triangular mel filters, float64 [filters, fft_size // 2 + 1] (HTK mel scale: 2595 log10(1 + f / 700))."""
    mel_low, mel_high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (spec.low_hz, spec.high_hz))
    points_hz = 700.0 * (10.0 ** (np.linspace(mel_low, mel_high, spec.filters + 2) / 2595.0) - 1.0)
    bins = np.floor((spec.fft_size + 1) * points_hz / spec.rate_hz)
    filters = np.zeros((spec.filters, spec.fft_size // 2 + 1))
    for row in range(spec.filters):
        left, centre, right = bins[row : row + 3]
        rising = np.arange(int(left), int(centre))
        falling = np.arange(int(centre), int(right))
        filters[row, rising] = (rising - left) / max(centre - left, 1.0)
        filters[row, falling] = (right - falling) / max(right - centre, 1.0)
    return filters


def cepstral_transform(spec: MfccSpec) -> NDArray[np.float64]:
    """Return orthonormal DCT-II and lifter in one matrix, float64 [filters, cepstra]."""
    rows = np.arange(spec.filters)[:, None] + 0.5
    columns = np.arange(spec.cepstra)[None, :]
    dct = np.cos(np.pi * rows * columns / spec.filters) * math.sqrt(2.0 / spec.filters)
    dct[:, 0] = math.sqrt(1.0 / spec.filters)
    if spec.lifter:
        dct *= 1.0 + spec.lifter / 2.0 * np.sin(np.pi * np.arange(spec.cepstra) / spec.lifter)
    return np.asarray(dct)


def analysis_window(spec: MfccSpec) -> NDArray[np.float64]:
    """Return the frame's window function, float64 [window_samples]."""
    return np.hamming(spec.window_samples) if spec.window == "hamming" else np.ones(spec.window_samples)


def checked_samples(samples: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the samples if they are mono int16 or float32 and finite; raise ValueError otherwise."""
    if samples.ndim != 1:
        raise ValueError(f"samples must be mono, one dimension; got shape {samples.shape}")
    if samples.dtype == np.float32:
        if samples.size and not math.isfinite(float(np.add.reduce(samples))):
            raise ValueError("samples hold NaN or infinity; the block was not used")
    elif samples.dtype != np.int16:
        raise ValueError(f"samples must be int16, or float32 in [-1, 1]; got {samples.dtype}")
    return samples


def stable_block(*matrices: F32) -> int:
    """Return how many rows to multiply at once so that a row's bits do not depend on its place (8, 4, 2 or 1)."""
    rng = np.random.default_rng(0)
    for block in _BLOCKS:
        products = (np.tile(rng.random(len(m), np.float32), (block, 1)) @ m for m in matrices for _ in range(4))
        if all((product == product[0]).all() for product in products):
            return block
    raise AssertionError("a product of one row equals itself")


def _in_blocks(rows: F32, block: int) -> F32:
    """View [chunk, columns] as [chunk / block, block, columns]."""
    shape = (len(rows) // block, block, rows.shape[1])
    return np.lib.stride_tricks.as_strided(rows, shape, (block * rows.strides[0], *rows.strides))


class Mfcc:
    """A stream's cepstra. `push` returns float32 [frames, cepstra], a view that is valid until the next push."""

    def __init__(self, spec: MfccSpec) -> None:
        self.spec = spec
        window, hop, fft = spec.window_samples, spec.hop_samples, spec.fft_size
        self._window = analysis_window(spec).astype(np.float32)
        self._mel = self._packed_mel(spec)
        self._transform = cepstral_transform(spec).astype(np.float32)
        self._pending = np.zeros(window + CHUNK_FRAMES * hop, np.float32)  # pre-emphasised, not yet framed
        self._raw = np.zeros(len(self._pending) + 1, np.float32)  # [0] carries the sample before this piece
        self._framed = np.lib.stride_tricks.as_strided(self._pending, (CHUNK_FRAMES, window), (4 * hop, 4), writeable=False)
        self._frames = np.zeros((CHUNK_FRAMES, fft), np.float32)
        self._spectrum = np.zeros((CHUNK_FRAMES, fft), np.float32)
        self._mel_work = np.zeros((CHUNK_FRAMES, spec.filters + 1), np.float32)
        self._cepstra_work = np.zeros((CHUNK_FRAMES, spec.cepstra), np.float32)
        self._block = stable_block(self._mel, self._transform)
        self._blocks = [
            _in_blocks(work, self._block)
            for work in (self._spectrum, self._mel_work, self._mel_work[:, :-1], self._cepstra_work)
        ]
        self._cepstra = np.zeros((CHUNK_FRAMES, spec.cepstra), np.float32)
        self._log_mel = np.zeros((CHUNK_FRAMES, spec.filters), np.float32)
        self._produced = 0
        self._filled = 0

    @staticmethod
    def _packed_mel(spec: MfccSpec) -> F32:
        """Mel weights for squared, CCS-packed rows [Re0, Re1, Im1, ..., Re(N/2)]; a last column sums the frame's energy."""
        weights = np.concatenate([mel_filters(spec), np.ones((1, spec.fft_size // 2 + 1))]) / spec.fft_size
        packed = np.empty((spec.fft_size, spec.filters + 1), np.float32)
        packed[0] = weights[:, 0]
        packed[1:-1:2] = packed[2:-1:2] = weights[:, 1:-1].T
        packed[-1] = weights[:, -1]
        return packed

    @property
    def log_mel(self) -> F32:
        """Natural log of the mel energies of the frames of the last push, float32 [frames, filters], a view."""
        return self._log_mel[: self._produced]

    def reset(self) -> None:
        """Forget everything heard: the next push starts a new signal."""
        self._filled = 0
        self._produced = 0
        self._raw[0] = 0.0

    def push(self, samples: NDArray[np.generic]) -> F32:
        """Take samples (int16, or float32 in [-1, 1]; [N]) and return the frames they completed, float32 [n, cepstra].

        Raises ValueError on another dtype or rank, NaN or infinity, and is then as if the push had not happened.
        """
        checked_samples(samples)
        hop, window = self.spec.hop_samples, self.spec.window_samples
        self._reserve(max(0, (self._filled + samples.size - window) // hop + 1))
        self._produced = 0
        position = 0
        while position < samples.size:
            piece = samples[position : position + self._pending.size - self._filled]
            self._emphasise(piece)
            self._drain()
            position += piece.size
        return self._cepstra[: self._produced]

    def flush(self) -> F32:
        """Pad what is left with zeros to one last frame, as python_speech_features does, return it, and reset."""
        self._produced = 0
        unframed = self._filled - (self.spec.window_samples - self.spec.hop_samples)
        if unframed > 0:
            self._reserve(1)
            self._pending[self._filled : self.spec.window_samples] = 0.0
            self._filled = self.spec.window_samples
            self._drain()
        produced = self._produced
        self.reset()
        self._produced = produced
        return self._cepstra[:produced]

    def _reserve(self, frames: int) -> None:
        if frames > len(self._cepstra):
            self._cepstra = np.zeros((frames, self.spec.cepstra), np.float32)
            self._log_mel = np.zeros((frames, self.spec.filters), np.float32)

    def _emphasise(self, piece: NDArray[np.generic]) -> None:
        """Append y[t] = x[t] - a x[t-1] to the pending samples, carrying the last x across pushes."""
        size = piece.size
        scale = self.spec.sample_scale / (32768.0 if piece.dtype == np.int16 else 1.0)
        fresh = self._raw[1 : size + 1]
        np.copyto(fresh, piece)
        if scale != 1.0:
            np.multiply(fresh, np.float32(scale), out=fresh)
        out = self._pending[self._filled : self._filled + size]
        np.multiply(self._raw[:size], np.float32(-self.spec.pre_emphasis), out=out)
        np.add(out, fresh, out=out)
        self._raw[0] = fresh[-1]
        self._filled += size

    def _drain(self) -> None:
        """Turn every whole window among the pending samples into a frame and keep the overlap."""
        window, hop = self.spec.window_samples, self.spec.hop_samples
        while self._filled >= window:
            count = min((self._filled - window) // hop + 1, CHUNK_FRAMES)
            self._transform_chunk(count)
            left = self._filled - count * hop
            self._pending[:left] = self._pending[count * hop : self._filled]
            self._filled = left

    def _transform_chunk(self, count: int) -> None:
        frames, spectrum = self._frames[:count], self._spectrum[:count]
        mel, cepstra = self._mel_work[:count], self._cepstra_work[:count]
        np.multiply(self._framed[:count], self._window, out=frames[:, : self.spec.window_samples])
        cv2.dft(frames, spectrum, cv2.DFT_ROWS)
        np.multiply(spectrum, spectrum, out=spectrum)
        used = -(-count // self._block)  # rows after the last are stale but finite, and not read
        spectrum_blocks, mel_blocks, band_blocks, cepstra_blocks = (blocks[:used] for blocks in self._blocks)
        np.matmul(spectrum_blocks, self._mel, out=mel_blocks)
        np.maximum(mel, np.float32(_EPSILON), out=mel)
        np.log(mel, out=mel)
        np.matmul(band_blocks, self._transform, out=cepstra_blocks)
        if self.spec.energy_as_c0:
            cepstra[:, 0] = mel[:, -1]
        start, stop = self._produced, self._produced + count
        self._cepstra[start:stop] = cepstra
        self._log_mel[start:stop] = mel[:, :-1]
        self._produced = stop
