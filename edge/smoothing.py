"""Smoothing of labels: exponential moving average and hysteresis, both in seconds and independent of the tick rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moodring.clock import NS_PER_S
from moodring.types import F32


@dataclass(frozen=True, slots=True)
class SmoothingSettings:
    """`time_constant_s` of the average (0: off); a new label must lead by `switch_margin`; a gap over `forget_s` resets."""

    time_constant_s: float = 0.2
    switch_margin: float = 0.05
    forget_s: float = 1.0


class Smoother:
    """Smooths the fused probabilities of one stream."""

    def __init__(self, settings: SmoothingSettings | None = None) -> None:
        self.settings = settings or SmoothingSettings()
        self.reset()

    def reset(self) -> None:
        """Drop the average and the label."""
        self._mean: F32 | None = None
        self._label = 0
        self._time_ns = 0

    def update(self, probabilities: F32, time_ns: int) -> tuple[F32, int]:
        """Accept probabilities, float32 [n], at a time; return the smoothed ones, float32 [n], and the index of the label."""
        elapsed_s = (time_ns - self._time_ns) / NS_PER_S
        self._time_ns = time_ns
        if self._mean is None or elapsed_s > self.settings.forget_s:
            self._mean = probabilities.copy()
            self._label = int(probabilities.argmax())
            return self._mean, self._label
        constant_s = self.settings.time_constant_s
        decay = math.exp(-elapsed_s / constant_s) if constant_s > 0 else 0.0
        self._mean = np.asarray(decay * self._mean + (1.0 - decay) * probabilities, np.float32)
        best = int(self._mean.argmax())
        if self._mean[best] - self._mean[self._label] > self.settings.switch_margin:
            self._label = best
        return self._mean, self._label
