"""Voice activity from band energies: louder than a tracked noise floor, with a hangover.

The floor is the minimum of the smoothed band energy over the last seconds (minimum statistics: Martin, "Noise power
spectral density estimation based on optimal smoothing and minimum statistics", 2001, without its bias compensation).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge.features.filterbank import band_edges_hz, full_scale_db
from edge.features.spec import MfccSpec
from edge.types import F32

BAND_HZ = (250.0, 4000.0)
ABOVE_FLOOR_DB = 9.0
QUIETEST_DBFS = -66.0  # below this nothing counts as speech, whatever the floor
FLOOR_START_DBFS = -60.0  # a stream may begin in the middle of a word
SMOOTHING = 0.7  # of the energy whose minimum is the floor
SUBWINDOW_FRAMES = 50
SUBWINDOWS = 6  # the floor remembers three seconds
HANGOVER_FRAMES = 20


class VoiceActivity:
    """Speech or not, for each frame of log mel energies."""

    def __init__(self, spec: MfccSpec) -> None:
        centres_hz = band_edges_hz(spec)[1:-1]
        inside = np.flatnonzero((centres_hz >= BAND_HZ[0]) & (centres_hz <= BAND_HZ[1]))
        self._band = slice(int(inside[0]), int(inside[-1]) + 1)
        self._full_scale_db = full_scale_db(spec)
        self.level_dbfs = -math.inf
        self.reset()

    def reset(self) -> None:
        """Forget the noise floor and the hangover."""
        self._smoothed_db = 0.0
        self._minima = [FLOOR_START_DBFS] * SUBWINDOWS
        self._frame = 0
        self._hangover = 0
        self.level_dbfs = -math.inf

    def update(self, log_mel: F32) -> NDArray[np.bool_]:
        """Take float32 [n, filters] natural-log mel energies; return bool [n], True where somebody speaks."""
        voiced = np.zeros(len(log_mel), np.bool_)
        if not len(log_mel):
            return voiced
        energy = np.exp(log_mel[:, self._band]).sum(axis=1)
        for index, level_db in enumerate((10.0 * np.log10(energy) - self._full_scale_db).tolist()):
            voiced[index] = self._update_one(level_db)
            self.level_dbfs = level_db
        return voiced

    def _update_one(self, level_db: float) -> bool:
        self._smoothed_db = level_db if self._frame == 0 else SMOOTHING * self._smoothed_db + (1 - SMOOTHING) * level_db
        if self._frame % SUBWINDOW_FRAMES == 0 and self._frame:
            self._minima = [*self._minima[1:], self._smoothed_db]
        self._minima[-1] = min(self._minima[-1], self._smoothed_db)
        self._frame += 1
        if level_db > max(min(self._minima) + ABOVE_FLOOR_DB, QUIETEST_DBFS):
            self._hangover = HANGOVER_FRAMES
            return True
        self._hangover = max(0, self._hangover - 1)
        return self._hangover > 0
