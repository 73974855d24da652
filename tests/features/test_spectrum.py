"""Spectrum kernels: all compute |rfft|^2 for any number of frames; a measurement selects one. Mel filters."""

from __future__ import annotations

import numpy as np
import pytest

from moodring.features.audio.filterbank import mel_filters
from moodring.features.audio.spectrum import Cv2Kernel, NumpyKernel, fastest_kernel, make_kernel
from moodring.features.spec import MfccSpec

KERNELS = {"cv2": Cv2Kernel, "numpy": NumpyKernel}
ROWS = 48


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("fft_size", [16, 256, 512, 2048])
@pytest.mark.parametrize(("precision", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_power_times_packed_weights_equals_power_spectrum_times_weights(name, fft_size, precision, tolerance):
    rng = np.random.default_rng(0)
    kernel = make_kernel(name, fft_size, ROWS, precision)
    assert isinstance(kernel, KERNELS[name])
    assert kernel.frames.dtype == kernel.power.dtype == precision
    kernel.frames[:] = rng.normal(size=kernel.frames.shape)
    weights = rng.random((5, fft_size // 2 + 1))
    kernel.plan(ROWS)()
    expected = np.abs(np.fft.rfft(kernel.frames.astype(np.float64))) ** 2 @ weights.T
    packed = kernel.pack(weights)
    assert packed.dtype == precision
    np.testing.assert_allclose(kernel.power @ packed, expected, rtol=tolerance)


@pytest.mark.parametrize("name", KERNELS)
def test_each_bin_gets_its_own_weight(name: str):
    kernel = make_kernel(name, 64, 33, np.float64)
    t = np.arange(64)
    for index in range(33):
        kernel.frames[index] = np.cos(2 * np.pi * index * t / 64)
    kernel.plan(33)()
    power = kernel.power @ kernel.pack(np.eye(33))
    expected = np.diag([64.0**2, *[32.0**2] * 31, 64.0**2])
    np.testing.assert_allclose(power, expected, atol=1e-9)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_any_number_of_frames_gives_the_same_bits_and_leaves_other_rows_unchanged(name: str, precision: type):
    kernel = make_kernel(name, 512, ROWS, precision)
    kernel.frames[:] = np.random.default_rng(0).normal(size=kernel.frames.shape)
    kernel.plan(ROWS)()
    whole = kernel.power.copy()
    for count in (1, 2, 3, 5, 7, 10, 30, 47):
        kernel.power[:] = -1.0
        kernel.plan(count)()
        np.testing.assert_array_equal(kernel.power[:count], whole[:count])
        assert (kernel.power[count:] == -1.0).all()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_fastest_kernel_selects_one_kernel_and_caches_it(precision: str):
    assert fastest_kernel(512, precision) in KERNELS
    assert fastest_kernel(512, precision) == fastest_kernel(512, precision)
    assert isinstance(make_kernel("auto", 512, 4, np.dtype(precision).type), KERNELS[fastest_kernel(512, precision)])


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_filters_are_overlapping_triangles_of_unit_height(scale: str):
    filters = mel_filters(MfccSpec(filters=26, cepstra=13, mel_scale=scale))
    np.testing.assert_allclose(filters.max(axis=1), 1.0)
    assert (filters >= 0.0).all()
    assert (np.diff(filters.argmax(axis=1)) > 0).all()
    inside = slice(filters[0].argmax(), filters[-1].argmax() + 1)
    np.testing.assert_allclose(filters[:, inside].sum(axis=0), 1.0)
