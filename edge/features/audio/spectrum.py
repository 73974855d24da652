"""Two ways from windowed frames to their power spectrum, and a measurement of a few milliseconds that chooses one.

`cv2` is OpenCV's DFT of rows (Intel IPP where the build has it), `numpy` is NumPy's pocketfft. Both leave squared real and
imaginary parts side by side; `pack` lays filter weights out the same way, so that one matrix product does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

KernelName = Literal["auto", "cv2", "numpy"]

_TRIALS = 15
_TRIAL_FRAMES = 10


class Kernel(Protocol):
    """`frames` [rows, fft_size] in, squared spectrum in `power` [rows, columns] out, filter weights laid out to match."""

    frames: NDArray[Any]
    power: NDArray[Any]

    def plan(self, count: int) -> Callable[[], None]:
        """Return what computes the first `count` rows of `power` from those of `frames`."""
        ...

    def pack(self, weights: NDArray[np.float64]) -> NDArray[Any]:
        """Lay out [filters, bins] as the matrix [columns, filters] that `power` is to be multiplied by."""
        ...


class Cv2Kernel:
    """OpenCV packs a real spectrum as Re0, Re1, Im1, Re2, Im2, ..., Re(N/2)."""

    def __init__(self, fft_size: int, rows: int, dtype: type[Any]) -> None:
        self.frames = np.zeros((rows, fft_size), dtype)
        self.power = np.zeros((rows, fft_size), dtype)

    def plan(self, count: int) -> Callable[[], None]:
        frames, power = self.frames[:count], self.power[:count]

        def run() -> None:
            cv2.dft(frames, power, cv2.DFT_ROWS)
            np.multiply(power, power, power)

        return run

    def pack(self, weights: NDArray[np.float64]) -> NDArray[Any]:
        packed = np.empty((self.frames.shape[1], len(weights)), self.frames.dtype)
        packed[0] = weights[:, 0]
        packed[1:-1:2] = packed[2:-1:2] = weights[:, 1:-1].T
        packed[-1] = weights[:, -1]
        return packed


class NumpyKernel:
    """NumPy's complex spectrum, seen as pairs Re0, Im0, Re1, Im1, ...

    It comes divided by the FFT size, a power of two, and the weights make up for it exactly: asked for a spectrum that is not
    scaled, NumPy multiplies by a whole number, and to do so computes in float64 and in new memory.
    """

    def __init__(self, fft_size: int, rows: int, dtype: type[Any]) -> None:
        self.frames = np.zeros((rows, fft_size), dtype)
        self._complex = np.zeros((rows, fft_size // 2 + 1), np.complex64 if dtype is np.float32 else np.complex128)
        self.power = self._complex.view(dtype)

    def plan(self, count: int) -> Callable[[], None]:
        frames, spectrum, power = self.frames[:count], self._complex[:count], self.power[:count]

        def run() -> None:
            np.fft.rfft(frames, norm="forward", out=spectrum)
            np.multiply(power, power, power)

        return run

    def pack(self, weights: NDArray[np.float64]) -> NDArray[Any]:
        return np.repeat(weights.T * self.frames.shape[1] ** 2, 2, axis=0).astype(self.frames.dtype)


_KERNELS: dict[str, type[Cv2Kernel | NumpyKernel]] = {"cv2": Cv2Kernel, "numpy": NumpyKernel}


def make_kernel(name: KernelName, fft_size: int, rows: int, dtype: type[Any]) -> Kernel:
    """Build the named kernel; `auto` is the one that is faster here."""
    chosen = fastest_kernel(fft_size, np.dtype(dtype).name) if name == "auto" else name
    return _KERNELS[chosen](fft_size, rows, dtype)


@lru_cache(maxsize=8)
def fastest_kernel(fft_size: int, dtype: str) -> Literal["cv2", "numpy"]:
    """Measure both kernels side by side, a few frames at a time, and return the faster by median."""
    kernels = {name: kind(fft_size, _TRIAL_FRAMES, np.dtype(dtype).type) for name, kind in _KERNELS.items()}
    noise = np.random.default_rng(0).standard_normal((_TRIAL_FRAMES, fft_size)).astype(np.dtype(dtype))
    times_ns: dict[str, list[int]] = {name: [] for name in kernels}
    plans = {name: kernel.plan(_TRIAL_FRAMES) for name, kernel in kernels.items()}
    for name, run in plans.items():
        kernels[name].frames[:] = noise
        run()  # the first call sets up its tables
    for _ in range(_TRIALS):
        for name, run in plans.items():
            start_ns = time.perf_counter_ns()
            run()
            times_ns[name].append(time.perf_counter_ns() - start_ns)
    return "cv2" if np.median(times_ns["cv2"]) <= np.median(times_ns["numpy"]) else "numpy"
