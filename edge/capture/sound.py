"""Decoded sound of any rate and channels as mono at one rate, through PyAV."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from moodring.types import F32


class Resampler:
    """A stream's sound at `rate_hz` in mono; what the filter still holds comes with the next push."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._format: tuple[object, ...] | None = None
        self._resampler = self._new_resampler()

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler("fltp", rate=self._rate_hz)  # channels stay apart: FFmpeg's own mono is 3 dB too loud

    def push(self, frame: av.AudioFrame) -> F32:
        """Return what the frame gives, float32 [N] in [-1, 1]. A frame of another form starts a new signal."""
        input_format = (frame.sample_rate, frame.layout.name, frame.format.name)
        if input_format != self._format:
            self._format, self._resampler = input_format, self._new_resampler()
        frame.pts = None
        blocks = [resampled.to_ndarray().mean(axis=0, dtype=np.float32) for resampled in self._resampler.resample(frame)]
        samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        # A decoder of floating-point sound may hand on anything: what is no number is silence.
        return np.asarray(np.clip(np.nan_to_num(samples, copy=False), -1.0, 1.0), np.float32)

    def push_int16(self, samples: NDArray[np.int16], rate_hz: int, channels: int) -> F32:
        """Take interleaved samples, int16 [N], as a sound card gives them."""
        layout = "mono" if channels == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate_hz
        return self.push(frame)
