"""Conversion of decoded sound of any sample rate and channel count to mono at one sample rate, through PyAV."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from moodring.types import F32


def new_resampler(rate_hz: int) -> av.AudioResampler:
    """Return a resampler to planar float32 at `rate_hz`. It keeps the channels: FFmpeg's own mono mix is 3 dB too loud."""
    return av.AudioResampler("fltp", rate=rate_hz)


def mono_samples(resampled: av.AudioFrame) -> F32:
    """Return the mean of a planar float32 frame's channels, float32 [N] in [-1, 1].

    A decoder of floating-point sound may output any value: NaN becomes 0, and larger values are clipped.
    """
    mono = resampled.to_ndarray().mean(axis=0, dtype=np.float32)
    return np.asarray(np.clip(np.nan_to_num(mono, copy=False), -1.0, 1.0), np.float32)


def sample_format(frame: av.AudioFrame) -> tuple[int, str, str]:
    """Return the sample rate, channel layout and sample format. A resampler accepts frames of one such combination only."""
    return frame.sample_rate, frame.layout.name, frame.format.name


class Resampler:
    """Converts the frames of a stream to mono float32 at `rate_hz`. Samples that stay in its filter come with the next push."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._format: tuple[int, str, str] | None = None
        self._resampler = new_resampler(rate_hz)

    def push(self, frame: av.AudioFrame) -> F32:
        """Return the samples that a frame completes, float32 [N] in [-1, 1]. A frame of another format restarts the filter."""
        input_format = sample_format(frame)
        if input_format != self._format:
            self._format, self._resampler = input_format, new_resampler(self._rate_hz)
        frame.pts = None
        blocks = [mono_samples(resampled) for resampled in self._resampler.resample(frame)]
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def push_int16(self, samples: NDArray[np.int16], rate_hz: int, channels: int) -> F32:
        """Convert interleaved samples of a sound card, int16 [N], as `push` does."""
        layout = "mono" if channels == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate_hz
        return self.push(frame)
