"""Power spectrum of windowed frames: two kernels, and a measurement of a few milliseconds that selects the faster one.

`cv2` is OpenCV's row-wise DFT (Intel IPP if the build includes it); `numpy` is NumPy's pocketfft. Both store squared real and
imaginary parts as adjacent columns. `pack` arranges filter weights in the same layout, so that one matrix product sums the two
parts and applies the filters.
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
    """A power spectrum with fixed buffers: input `frames` [rows, fft_size], output `power` [rows, columns].

    `power` contains squared real and imaginary parts. The number and order of its columns depend on the kernel.
    """

    frames: NDArray[Any]
    power: NDArray[Any]

    def plan(self, count: int) -> Callable[[], None]:
        """Return a function that computes the first `count` rows of `power` from those of `frames`."""
        ...

    def pack(self, weights: NDArray[np.float64]) -> NDArray[Any]:
        """Return weights [filters, bins] as a matrix [columns, filters]: `power @ matrix` gives the filter energies."""
        ...


class Cv2Kernel:
    """OpenCV's DFT. The columns of a spectrum are Re0, Re1, Im1, Re2, Im2, ..., Re(N/2)."""

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
    """NumPy's FFT. The complex spectrum is viewed as the columns Re0, Im0, Re1, Im1, ...

    The spectrum is divided by the FFT size, and `pack` multiplies the weights by its square. Both are exact, because the size
    is a power of two. Without this scaling, NumPy multiplies by an integer, which computes in float64 and allocates memory.
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
    """Return a new kernel of this name; `auto` selects the faster one on this machine."""
    chosen = fastest_kernel(fft_size, np.dtype(dtype).name) if name == "auto" else name
    return _KERNELS[chosen](fft_size, rows, dtype)


@lru_cache(maxsize=8)
def fastest_kernel(fft_size: int, dtype: str) -> Literal["cv2", "numpy"]:
    """Time both kernels alternately on a few frames and return the one with the lower median."""
    kernels = {name: kind(fft_size, _TRIAL_FRAMES, np.dtype(dtype).type) for name, kind in _KERNELS.items()}
    noise = np.random.default_rng(0).standard_normal((_TRIAL_FRAMES, fft_size)).astype(np.dtype(dtype))
    times_ns: dict[str, list[int]] = {name: [] for name in kernels}
    plans = {name: kernel.plan(_TRIAL_FRAMES) for name, kernel in kernels.items()}
    for name, run in plans.items():
        kernels[name].frames[:] = noise
        run()  # warm-up: the first call computes its tables
    for _ in range(_TRIALS):
        for name, run in plans.items():
            start_ns = time.perf_counter_ns()
            run()
            times_ns[name].append(time.perf_counter_ns() - start_ns)
    return "cv2" if np.median(times_ns["cv2"]) <= np.median(times_ns["numpy"]) else "numpy"
