"""Smoothing: the output is a distribution, does not depend on the tick rate, and the label has hysteresis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.smoothing import Smoother, SmoothingSettings


def distribution(*pairs: tuple[int, float], size: int = 8) -> np.ndarray:
    p = np.zeros(size, np.float32)
    for index, value in pairs:
        p[index] = value
    p[-1] += 1 - p.sum()
    return p


def random_distributions(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(8) * 0.5, count).astype(np.float32)


SURE_OF_0, SURE_OF_1 = distribution((0, 1.0)), distribution((1, 1.0))


@given(
    steps_ms=st.lists(st.integers(0, 1500), min_size=1, max_size=40),
    seed=st.integers(0, 1000),
    constant=st.floats(0, 5),
    margin=st.floats(0, 0.5),
    forget=st.floats(0.1, 60),
)
def test_the_output_is_a_distribution_within_the_range_of_the_inputs(steps_ms, seed, constant, margin, forget):
    smoother = Smoother(SmoothingSettings(constant, margin, forget))
    said = random_distributions(len(steps_ms), seed)
    now_ns = 0
    for index, step in enumerate(steps_ms):
        now_ns += step * NS_PER_MS
        mean, label = smoother.update(said[index], now_ns)
        assert mean.dtype == np.float32
        assert mean.sum() == pytest.approx(1, abs=1e-4)
        assert (mean >= said[: index + 1].min(axis=0) - 1e-5).all()
        assert (mean <= said[: index + 1].max(axis=0) + 1e-5).all()
        assert mean[label] >= mean.max() - margin - 1e-6


@given(seed=st.integers(0, 1000), rest_ms=st.integers(0, 400), parts=st.integers(1, 8))
def test_the_tick_rate_does_not_matter(seed: int, rest_ms: int, parts: int):
    """The same input for the same time has the same effect, in one step or in many."""
    first, second = random_distributions(2, seed)
    one, many = Smoother(), Smoother()
    one.update(first, 0)
    many.update(first, 0)
    (mean, _) = one.update(second, rest_ms * NS_PER_MS)
    for part in range(1, parts + 1):
        (mean_of_many, _) = many.update(second, rest_ms * NS_PER_MS * part // parts)
    np.testing.assert_allclose(mean, mean_of_many, atol=1e-5)


def test_after_one_time_constant_the_average_has_moved_by_63_percent():
    smoother = Smoother(SmoothingSettings(time_constant_s=0.3))
    smoother.update(SURE_OF_0, 0)
    mean, _ = smoother.update(SURE_OF_1, 300 * NS_PER_MS)
    assert mean[1] == pytest.approx(1 - np.exp(-1), abs=1e-5)


def test_a_time_constant_of_zero_disables_smoothing():
    smoother = Smoother(SmoothingSettings(time_constant_s=0.0, switch_margin=0.0))
    for index, said in enumerate(random_distributions(20, 3)):
        mean, label = smoother.update(said, index * NS_PER_MS)
        np.testing.assert_array_equal(mean, said)
        assert label == said.argmax()


def test_the_label_switches_only_above_the_margin():
    smoother = Smoother(SmoothingSettings(time_constant_s=0.0, switch_margin=0.1))
    assert smoother.update(distribution((0, 0.6), (1, 0.4)), 0)[1] == 0
    assert smoother.update(distribution((0, 0.46), (1, 0.54)), NS_PER_MS)[1] == 0
    assert smoother.update(distribution((0, 0.44), (1, 0.56)), 2 * NS_PER_MS)[1] == 1
    assert smoother.update(distribution((0, 0.54), (1, 0.46)), 3 * NS_PER_MS)[1] == 1


def test_a_long_gap_resets_the_average():
    smoother = Smoother(SmoothingSettings(time_constant_s=5.0, forget_s=1.0))
    smoother.update(SURE_OF_0, 0)
    assert smoother.update(SURE_OF_1, NS_PER_S)[1] == 0
    mean, label = smoother.update(SURE_OF_1, 2 * NS_PER_S + 1)
    np.testing.assert_array_equal(mean, SURE_OF_1)
    assert label == 1


def test_reset_restarts_and_a_missing_reset_shows():
    smoother = Smoother()
    smoother.update(SURE_OF_0, 0)
    forgotten, _ = smoother.update(SURE_OF_1, 100 * NS_PER_MS)
    assert forgotten[0] > 0.5
    smoother.reset()
    mean, label = smoother.update(SURE_OF_1, 200 * NS_PER_MS)
    np.testing.assert_array_equal(mean, SURE_OF_1)
    assert label == 1


def test_the_output_is_independent_of_later_calls_and_of_the_input():
    smoother = Smoother()
    said = SURE_OF_0.copy()
    mean, _ = smoother.update(said, 0)
    said[:] = 0.125
    smoother.update(SURE_OF_1, NS_PER_MS)
    np.testing.assert_array_equal(mean, SURE_OF_0)


def test_seven_classes_are_smoothed_too():
    smoother = Smoother()
    mean, label = smoother.update(distribution((2, 0.9), size=7), 0)
    assert (mean.shape, label) == ((7,), 2)
