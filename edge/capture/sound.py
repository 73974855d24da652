"""Conversion of decoded sound of any sample rate and channel count to mono at one sample rate, through PyAV."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from moodring.capture.downmix import Downmix
from moodring.types import F32


class Resampler:
    """Converts the frames of a stream to mono float32 at `rate_hz`. Samples that stay in its filter come with the next push.

    It resamples every channel and mixes them itself: FFmpeg's mono mix is 3 dB too loud. Raises av.error.FFmpegError for
    frames of more channels than FFmpeg resamples. Without `clip`, samples can lie outside [-1, 1].
    """

    def __init__(self, rate_hz: int, *, clip: bool = True) -> None:
        self._rate_hz = rate_hz
        self._limit = 1.0 if clip else np.inf
        self._format: tuple[int, str, str] | None = None
        self._resampler: av.AudioResampler | None = None
        self._channels: list[str] = []
        self._downmix: Downmix | None = None

    def push(self, frame: av.AudioFrame) -> F32:
        """Return the samples that a frame completes, float32 [N] in [-1, 1]. A frame of another format restarts the filter."""
        rest = self.flush() if self.is_new_format(frame) else np.zeros(0, np.float32)
        if self._resampler is None:
            # Packed samples: PyAV reads beyond the end of a planar frame of eight or more channels.
            self._resampler = av.AudioResampler("flt", rate=self._rate_hz)
        if self._format is None:
            self._format = _sample_format(frame)
            self._set_channels([channel.name for channel in frame.layout.channels])
        frame.pts = None
        samples = self._to_mono(self._resampler.resample(frame))
        return np.concatenate([rest, samples]) if rest.size else samples

    def is_new_format(self, frame: av.AudioFrame) -> bool:
        """Return whether the frame restarts the filter: it is the first, or its rate, layout or sample format changed."""
        return _sample_format(frame) != self._format

    def flush(self) -> F32:
        """Return the samples that are left in the filter, float32 [N], and restart it."""
        resampler, self._resampler = self._resampler, None
        rest = np.zeros(0, np.float32) if resampler is None else self._to_mono(resampler.resample(None))
        self._format = None
        return rest

    def _set_channels(self, names: list[str]) -> None:
        if names != self._channels:
            self._channels = names
            self._downmix = Downmix(names, self._rate_hz) if len(names) > 1 else None

    def _to_mono(self, resampled: list[av.AudioFrame]) -> F32:
        """Return the mono mix of packed float32 frames. A decoder may output NaN, which becomes 0, and values to be clipped."""
        blocks = [frame.to_ndarray().reshape(-1, len(self._channels)) for frame in resampled]
        if not blocks:
            return np.zeros(0, np.float32)
        samples: F32 = np.concatenate(blocks).astype(np.float32, copy=False)
        mono = samples[:, 0] if self._downmix is None else self._downmix.push(samples)
        return np.asarray(np.clip(np.nan_to_num(mono), -self._limit, self._limit), np.float32)

    def push_int16(self, samples: NDArray[np.int16], rate_hz: int, channels: int) -> F32:
        """Convert interleaved samples of a sound card, int16 [N], as `push` does."""
        layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate_hz
        return self.push(frame)


def _sample_format(frame: av.AudioFrame) -> tuple[int, str, str]:
    """Return the sample rate, channel layout and sample format. A resampler accepts frames of one such combination only."""
    return frame.sample_rate, frame.layout.name, frame.format.name
