"""Streaming MFCC: `push` accepts any number of samples and returns the frames that they complete.

The steps are pre-emphasis, framing, window, power spectrum, triangular mel filters, logarithm, DCT-II and liftering, as defined
by Davis and Mermelstein (1980), with the conventions of python_speech_features. A clip is a stream that is pushed once. Tables
are computed once, and every step writes to a preallocated buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moodring.features.audio.denoise import NoiseReduction
from moodring.features.audio.filterbank import analysis_window, cepstral_transform, mel_filters
from moodring.features.audio.high_pass import HighPass
from moodring.features.audio.matmul import ChunkInvariantMatmul, MatmulStep
from moodring.features.audio.pitch import PitchEstimator
from moodring.features.audio.spectrum import KernelName, make_kernel
from moodring.features.spec import PITCH_COLUMNS, MfccSpec

MAX_CACHED_PLANS = 128  # a live stream repeats a few plans; a clip needs one for each of its chunks
MAX_SUM_OF_SQUARES = 1e12  # of one push: weeks of sound at full scale, or one sample of a million times full scale
CHUNK_FRAMES = 48  # a multiple of every batch size that `ChunkInvariantMatmul` can select

_INT16, _FLOAT32 = np.dtype(np.int16), np.dtype(np.float32)
_EPSILON = float(np.finfo(np.float64).eps)  # python_speech_features' lower bound, avoids log(0)


def check_samples(samples: NDArray[Any]) -> None:
    """Raise ValueError unless the samples are mono int16 or float32, finite, and so small that their energy cannot overflow."""
    if samples.ndim != 1:
        raise ValueError(f"samples must be mono, with one dimension; got shape {samples.shape}")
    if samples.dtype == _INT16:
        return
    if samples.dtype != _FLOAT32:
        raise ValueError(f"samples must be int16, or float32 in [-1, 1]; got {samples.dtype}")
    if not cv2.norm(samples, cv2.NORM_L2SQR) <= MAX_SUM_OF_SQUARES:  # also rejects NaN; np.dot would warn on overflow
        raise ValueError("samples contain NaN or infinity, or are far outside [-1, 1]; the block is rejected")


@dataclass(frozen=True, slots=True)
class _Plan:
    """Views of the buffers for a number of frames, in the order of the steps that use them."""

    overlapping: NDArray[Any]
    window: NDArray[Any]
    windowed: NDArray[Any]
    spectrum: Callable[[], None]
    to_mel: list[MatmulStep]
    mel: NDArray[Any]
    log_floor: NDArray[Any]
    mel_floor: NDArray[Any]
    bands: NDArray[Any]
    log_mel: NDArray[Any]
    likelihood: NDArray[Any]
    to_cepstra: list[MatmulStep]
    cepstra: NDArray[Any]
    to_pitch: list[MatmulStep]
    pitch: NDArray[Any]


class Mfcc:
    """MFCC, or log mel energies, of one stream, as the spec's `output` selects.

    `dtype` is the precision of computation and output. `noise` tracks (and, if configured, reduces) noise in the mel energies
    and gives `likelihood`. `pitch` enables pitch and voicing. `kernel` selects the FFT (moodring.features.audio.spectrum).
    All arrays returned are views, valid until the next `push`.
    """

    def __init__(
        self,
        spec: MfccSpec,
        *,
        noise: NoiseReduction | None = None,
        pitch: bool = False,
        dtype: type[np.float32 | np.float64] = np.float32,
        kernel: KernelName = "cv2",
    ) -> None:
        self.spec = spec
        self.dtype = dtype
        self._noise = noise
        self._high_pass = HighPass(spec, dtype) if spec.high_pass_hz else None
        self._kernel = make_kernel(kernel, spec.fft_size, CHUNK_FRAMES, dtype)
        self._pitch_estimator = PitchEstimator(spec, self._kernel, CHUNK_FRAMES) if pitch else None
        scaled_window = analysis_window(spec) * spec.sample_scale  # until this step, samples are in [-1, 1]
        self._window = np.tile(scaled_window.astype(dtype), (CHUNK_FRAMES, 1))
        weights = mel_filters(spec) / spec.fft_size
        if spec.energy_as_c0:
            weights = np.vstack([weights, np.full(weights.shape[1], 1.0 / spec.fft_size)])
        self._to_mel = ChunkInvariantMatmul(self._kernel.pack(weights), CHUNK_FRAMES)
        self._to_cepstra = ChunkInvariantMatmul(cepstral_transform(spec).astype(dtype), CHUNK_FRAMES)
        self._emphasis = np.array(-spec.pre_emphasis, dtype)
        self._from_int16 = np.array(1.0 / 32768.0, dtype)
        # Capacity of exactly one chunk of frames: a long push is then processed in whole chunks, except the last.
        self._pending = np.zeros(spec.window_samples + (CHUNK_FRAMES - 1) * spec.hop_samples, dtype)
        self._overlapping = np.lib.stride_tricks.as_strided(
            self._pending,
            (CHUNK_FRAMES, spec.window_samples),
            (self._pending.itemsize * spec.hop_samples, self._pending.itemsize),
            writeable=False,
        )
        self._raw = np.zeros(self._pending.size + 1, dtype)  # one segment, preceded by the last sample of the previous one
        self._append_views: dict[tuple[int, int], tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = {}
        self._mel = np.zeros((CHUNK_FRAMES, len(weights)), dtype)
        self._log_floor = np.full_like(self._mel, _EPSILON)  # full arrays: NumPy is slower with a scalar
        self._mel_floor = np.full((CHUNK_FRAMES, spec.filters), spec.mel_floor, dtype)
        self._reserve(CHUNK_FRAMES)
        self.reset()

    @property
    def log_mel(self) -> NDArray[Any]:
        """Natural logarithm of the mel energies of the last push, [frames, filters]."""
        return self._log_mel[: self._produced]

    @property
    def likelihood(self) -> NDArray[Any]:
        """Log likelihood ratio of speech in each frame of the last push, float64 [frames]; zeros without `noise`."""
        return self._likelihood[: self._produced]

    @property
    def pitch(self) -> NDArray[Any]:
        """Pitch and voicing (moodring.features.audio.pitch) of the last push, [frames, 2]; zeros without `pitch`."""
        return self._pitch[: self._produced]

    def reset(self) -> None:
        """Start a new signal: drop pending samples, the state of pre-emphasis and the noise floor."""
        if self._noise is not None:
            self._noise.reset()
        if self._high_pass is not None:
            self._high_pass.reset()
        self._filled = 0
        self._produced = 0
        self._raw[0] = 0.0

    def push(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Accept samples [N], int16 or float32 in [-1, 1], and return the features [frames, columns] that they complete.

        Raises ValueError on another dtype or rank, on NaN or infinity, and then leaves the state unchanged.
        """
        check_samples(samples)
        if self._high_pass is not None:
            samples = self._high_pass.push(samples)
        self._produced = 0
        position, size, capacity = 0, samples.size, self._pending.size
        needed = (self._filled + size - self.spec.window_samples) // self.spec.hop_samples + 1
        if needed > len(self._log_mel):
            self._reserve(needed)
        while position < size:
            segment = samples[position : position + capacity - self._filled]
            self._append(segment)
            self._process_pending()
            position += segment.size
        return self._output[: self._produced]

    def _reserve(self, frames: int) -> None:
        """Allocate the outputs of one push; needed only if a push is longer than all previous ones."""
        rows = -(-frames // CHUNK_FRAMES) * CHUNK_FRAMES
        self._log_mel = np.zeros((rows, self.spec.filters), self.dtype)
        self._cepstra = np.zeros((rows, self.spec.cepstra), self.dtype)
        self._likelihood = np.zeros(rows)
        self._pitch = np.zeros((rows, PITCH_COLUMNS), self.dtype)
        self._plans: dict[tuple[int, int], _Plan] = {}
        self._output = self._log_mel if self.spec.output == "log_mel" else self._cepstra

    def _append(self, segment: NDArray[Any]) -> None:
        """Append y[t] = x[t] - a x[t-1] to the pending samples; keep the last x for the next segment."""
        size = segment.size
        views = self._append_views.get((self._filled, size))
        if views is None:
            views = (self._raw[1 : size + 1], self._raw[:size], self._pending[self._filled : self._filled + size])
            if len(self._append_views) < MAX_CACHED_PLANS:
                self._append_views[self._filled, size] = views
        current, previous, out = views
        current[:] = segment
        if segment.dtype == _INT16:
            np.multiply(current, self._from_int16, current)
        np.multiply(previous, self._emphasis, out)
        np.add(out, current, out)
        self._raw[0] = self._raw[size]
        self._filled += size

    def _process_pending(self) -> None:
        """Transform every complete window of the pending samples into a frame and keep the overlap."""
        hop = self.spec.hop_samples
        count = (self._filled - self.spec.window_samples) // hop + 1
        if count <= 0:
            return
        self._transform(count)
        remaining = self._filled - count * hop
        self._pending[:remaining] = self._pending[count * hop : self._filled]
        self._filled = remaining

    def _transform(self, count: int) -> None:
        """Compute spectrum, mel energies, logarithm and cepstra of the first `count` windows of the pending samples."""
        plan = self._plans.get((count, self._produced))
        if plan is None:
            plan = self._plan(count, self._produced)
            if len(self._plans) < MAX_CACHED_PLANS:
                self._plans[count, self._produced] = plan
        cv2.multiply(plan.overlapping, plan.window, plan.windowed)
        plan.spectrum()
        for rows, matrix, out in plan.to_mel:
            np.dot(rows, matrix, out)
        if self._pitch_estimator is not None:
            self._pitch_estimator.estimate(plan.to_pitch, plan.pitch)
        if self.spec.mel_floor:
            np.maximum(plan.bands, plan.mel_floor, out=plan.bands)
        if self._noise is not None:
            self._noise.apply(plan.bands, plan.likelihood)
        np.maximum(plan.mel, plan.log_floor, out=plan.mel)
        np.log(plan.bands, plan.log_mel)
        for rows, matrix, out in plan.to_cepstra:
            np.dot(rows, matrix, out)
        if self.spec.energy_as_c0:
            np.log(plan.mel[:, -1], plan.cepstra[:, 0])
        self._produced += count

    def _plan(self, count: int, start: int) -> _Plan:
        """Create the views for `count` frames that start at output row `start`. Cached, so that a live stream creates none."""
        cepstra = self.spec.output == "cepstra"
        log_mel = self._log_mel[start : start + count]
        return _Plan(
            overlapping=self._overlapping[:count],
            window=self._window[:count],
            windowed=self._kernel.frames[:count, : self.spec.window_samples],
            spectrum=self._kernel.plan(count),
            to_mel=self._to_mel.plan(self._kernel.power, self._mel, count),
            mel=self._mel[:count],
            log_floor=self._log_floor[:count],
            mel_floor=self._mel_floor[:count],
            bands=self._mel[:count, : self.spec.filters],
            log_mel=log_mel,
            likelihood=self._likelihood[start : start + count],
            to_cepstra=self._to_cepstra.plan(self._log_mel[start:], self._cepstra[start:], count) if cepstra else [],
            cepstra=self._cepstra[start : start + count],
            to_pitch=[] if self._pitch_estimator is None else self._pitch_estimator.plan(count),
            pitch=self._pitch[start : start + count],
        )
