"""Streaming MFCC: push any number of samples, get the frames that became complete.

The chain is pre-emphasis, framing, window, power spectrum, triangular mel filters, log, DCT-II and liftering as defined by
Davis and Mermelstein (1980) and in the conventions of python_speech_features. A clip is a stream fed once: both go
through `push`. Every table is computed once, every intermediate is preallocated, and every step writes into one.
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
from moodring.features.audio.matmul import ChunkInvariantMatmul, MatmulStep
from moodring.features.audio.pitch import PitchEstimator
from moodring.features.audio.spectrum import KernelName, make_kernel
from moodring.features.spec import PITCH_COLUMNS, MfccSpec

MAX_CACHED_PLANS = 128  # kept; a live stream repeats a few, a clip one for each of its chunks
MAX_SUM_OF_SQUARES = 1e12  # of one push: weeks at full scale, or one sample of a million times that
CHUNK_FRAMES = 48  # a multiple of every block size that `products` may choose
Array = NDArray[Any]  # of the precision asked for

_INT16, _FLOAT32 = np.dtype(np.int16), np.dtype(np.float32)
_EPSILON = float(np.finfo(np.float64).eps)  # python_speech_features' guard against log(0)


def check_samples(samples: Array) -> None:
    """Raise ValueError unless the samples are mono int16 or float32, finite, and not so loud that their energy overflows."""
    if samples.ndim != 1:
        raise ValueError(f"samples must be mono, one dimension; got shape {samples.shape}")
    if samples.dtype == _INT16:
        return
    if samples.dtype != _FLOAT32:
        raise ValueError(f"samples must be int16, or float32 in [-1, 1]; got {samples.dtype}")
    if not cv2.norm(samples, cv2.NORM_L2SQR) <= MAX_SUM_OF_SQUARES:  # false for NaN as well; silent where dot warns of overflow
        raise ValueError("samples hold NaN or infinity, or are far beyond [-1, 1]; the block was not used")


@dataclass(frozen=True, slots=True)
class _Plan:
    """Views of the buffers for some number of frames."""

    overlapping: Array
    window: Array
    windowed: Array
    spectrum: Callable[[], None]
    to_mel: list[MatmulStep]
    mel: Array
    log_floor: Array
    bands: Array
    log_mel: Array
    likelihood: Array
    to_cepstra: list[MatmulStep]
    cepstra: Array
    to_pitch: list[MatmulStep]
    pitch: Array


class Mfcc:
    """A stream's features, of the spec's `output`: cepstra or log mel energies.

    `push` and `flush` return [frames, columns] of the precision asked for (float32 or float64): a view that is valid until
    the next push. With `noise`, noise is followed (and reduced, if it says so) in the mel energies, and `likelihood` tells of
    each frame how likely it is speech. With `pitch`, `pitch` tells how high it is. `kernel` names the way to the
    spectrum (see `moodring.features.audio.spectrum`).
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
        self._kernel = make_kernel(kernel, spec.fft_size, CHUNK_FRAMES, dtype)
        self._pitch_estimator = PitchEstimator(spec, self._kernel, CHUNK_FRAMES) if pitch else None
        scaled_window = analysis_window(spec) * spec.sample_scale  # samples stay in [-1, 1] until here
        self._window = np.tile(scaled_window.astype(dtype), (CHUNK_FRAMES, 1))
        weights = mel_filters(spec) / spec.fft_size
        if spec.energy_as_c0:
            weights = np.vstack([weights, np.full(weights.shape[1], 1.0 / spec.fft_size)])
        self._to_mel = ChunkInvariantMatmul(self._kernel.pack(weights), CHUNK_FRAMES)
        self._to_cepstra = ChunkInvariantMatmul(cepstral_transform(spec).astype(dtype), CHUNK_FRAMES)
        self._emphasis = np.array(-spec.pre_emphasis, dtype)
        self._from_int16 = np.array(1.0 / 32768.0, dtype)
        # Room for exactly one chunk of frames: a long push then goes in whole chunks but for the last.
        self._pending = np.zeros(spec.window_samples + (CHUNK_FRAMES - 1) * spec.hop_samples, dtype)
        self._overlapping = np.lib.stride_tricks.as_strided(
            self._pending,
            (CHUNK_FRAMES, spec.window_samples),
            (self._pending.itemsize * spec.hop_samples, self._pending.itemsize),
            writeable=False,
        )
        self._raw = np.zeros(self._pending.size + 1, dtype)  # one piece, and before it the last sample of the one before
        self._append_views: dict[tuple[int, int], tuple[Array, Array, Array]] = {}
        self._mel = np.zeros((CHUNK_FRAMES, len(weights)), dtype)
        self._log_floor = np.full_like(self._mel, _EPSILON)  # whole: NumPy is slower with a scalar
        self._reserve(CHUNK_FRAMES)
        self.reset()

    @property
    def log_mel(self) -> Array:
        """Natural log of the mel energies of the frames of the last push, [frames, filters], a view."""
        return self._log_mel[: self._produced]

    @property
    def likelihood(self) -> Array:
        """Log likelihood ratio of speech for each frame of the last push, [frames], a view; zeros without `noise`."""
        return self._likelihood[: self._produced]

    @property
    def pitch(self) -> Array:
        """Pitch and voicing of the frames of the last push, [frames, 2], a view (moodring.features.audio.pitch); else zeros."""
        return self._pitch[: self._produced]

    def reset(self) -> None:
        """Forget everything heard: the next push starts a new signal."""
        if self._noise is not None:
            self._noise.reset()
        self._filled = 0
        self._produced = 0
        self._is_below_one_window = True  # shorter than one window, so far
        self._raw[0] = 0.0

    def push(self, samples: Array) -> Array:
        """Take samples (int16, or float32 in [-1, 1]; [N]) and return the features of the frames they completed.

        Raises ValueError on another dtype or rank, NaN or infinity, and is then as if the push had not happened.
        """
        check_samples(samples)
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

    def flush(self) -> Array:
        """Pad what is left with zeros to one last frame, as python_speech_features does, return it, and reset."""
        self._produced = 0
        if self._filled > self.spec.window_samples - self.spec.hop_samples or (self._is_below_one_window and self._filled):
            self._pending[self._filled : self.spec.window_samples] = 0.0
            self._filled = self.spec.window_samples
            self._process_pending()
        produced = self._produced
        self.reset()
        self._produced = produced
        return self._output[:produced]

    def _reserve(self, frames: int) -> None:
        """Make room for the frames of one push: grows only when a push is longer than any before."""
        rows = -(-frames // CHUNK_FRAMES) * CHUNK_FRAMES
        self._log_mel = np.zeros((rows, self.spec.filters), self.dtype)
        self._cepstra = np.zeros((rows, self.spec.cepstra), self.dtype)
        self._likelihood = np.zeros(rows)
        self._pitch = np.zeros((rows, PITCH_COLUMNS), self.dtype)
        self._plans: dict[tuple[int, int], _Plan] = {}
        self._output = self._log_mel if self.spec.output == "log_mel" else self._cepstra

    def _append(self, segment: Array) -> None:
        """Add y[t] = x[t] - a x[t-1] to the pending samples; the last x is carried to the next piece."""
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
        """Turn every whole window among the pending samples into a frame and keep the overlap."""
        hop = self.spec.hop_samples
        count = (self._filled - self.spec.window_samples) // hop + 1
        if count <= 0:
            return
        self._transform(count)
        left = self._filled - count * hop
        self._pending[:left] = self._pending[count * hop : self._filled]
        self._filled = left

    def _transform(self, count: int) -> None:
        """Frames -> spectrum -> mel energies -> log -> cepstra, each written where the next reads it."""
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
        if self._noise is not None:
            self._noise.apply(plan.bands, plan.likelihood)
        np.maximum(plan.mel, plan.log_floor, out=plan.mel)
        np.log(plan.bands, plan.log_mel)
        for rows, matrix, out in plan.to_cepstra:
            np.dot(rows, matrix, out)
        if self.spec.energy_as_c0:
            np.log(plan.mel[:, -1], plan.cepstra[:, 0])
        self._produced += count
        self._is_below_one_window = False

    def _plan(self, count: int, start: int) -> _Plan:
        """Collect the views that `count` frames need, so that a push of a live stream makes none."""
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
            bands=self._mel[:count, : self.spec.filters],
            log_mel=log_mel,
            likelihood=self._likelihood[start : start + count],
            to_cepstra=self._to_cepstra.plan(self._log_mel[start:], self._cepstra[start:], count) if cepstra else [],
            cepstra=self._cepstra[start : start + count],
            to_pitch=[] if self._pitch_estimator is None else self._pitch_estimator.plan(count),
            pitch=self._pitch[start : start + count],
        )
