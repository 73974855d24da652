"""Voice activity detection: smooths the likelihood ratio of the noise tracker, compares it with a threshold, adds a hangover.

The method is that of Sohn, Kim and Sung, "A statistical model-based voice activity detection" (1999), with a first-order
recursive average instead of their hidden Markov model. A frame below an absolute level never starts speech, even if the noise
is lower still.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from moodring.features.audio.filterbank import bands_within, full_scale_db
from moodring.features.spec import MfccSpec
from moodring.types import F32

VOICE_BAND_HZ = (250.0, 4000.0)
MIN_LEVEL_DBFS = -66.0
SMOOTHING = 0.6
THRESHOLD = 0.5  # on the smoothed log likelihood ratio
HANGOVER_FRAMES = 8


def voice_bands(spec: MfccSpec) -> slice:
    """Return the mel bands that the detection of speech uses."""
    return bands_within(spec, *VOICE_BAND_HZ)


class VoiceActivityDetector:
    """Classifies each frame of a stream as speech or not.

    `level_dbfs` is the level of the newest frame in VOICE_BAND_HZ, in dB relative to a full-scale sine; -inf before any frame.
    """

    def __init__(self, spec: MfccSpec) -> None:
        self._bands = voice_bands(spec)
        self._full_scale_db = full_scale_db(spec)
        self.reset()

    def reset(self) -> None:
        """Start a new signal: clear the likelihood, the hangover and the level."""
        self._likelihood = 0.0
        self._hangover = 0
        self.level_dbfs = -math.inf

    def update(self, log_mel: F32, likelihood: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return bool [n], True in frames with speech.

        Expects natural-log mel energies [n, filters] and log likelihood ratios [n] of consecutive frames.
        """
        voiced = np.zeros(len(log_mel), np.bool_)
        if not len(log_mel):
            return voiced
        levels_db = 10.0 * np.log10(np.exp(log_mel[:, self._bands]).sum(axis=1)) - self._full_scale_db
        for index, (log_ratio, level_db) in enumerate(zip(likelihood.tolist(), levels_db.tolist(), strict=True)):
            self._likelihood += (1.0 - SMOOTHING) * (log_ratio - self._likelihood)
            if self._likelihood > THRESHOLD and level_db > MIN_LEVEL_DBFS:
                self._hangover = HANGOVER_FRAMES
            voiced[index] = self._hangover > 0
            self._hangover = max(0, self._hangover - 1)
        self.level_dbfs = levels_db[-1]
        return voiced
