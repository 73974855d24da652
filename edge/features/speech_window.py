"""From sound to the speech branch's input: the last seconds of cepstra, at a fixed hop, while someone speaks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge.clock import NS_PER_S
from edge.features.mfcc import Mfcc
from edge.features.spec import SpeechSpec
from edge.features.voice_activity import VoiceActivity
from edge.types import F32, AudioBlock, FeatureWindow

RECENT_FRAMES = 100  # a hop is used where the last second holds at least
RECENT_VOICED_FRAMES = 20  # this much voice


def fit_window(cepstra: F32, spec: SpeechSpec) -> F32:
    """Return a network input float32 [window_frames, cepstra] from 1..window_frames frames, newest last.

    The level (mean c0 of the louder half of the frames) is removed, so that a quiet microphone and a studio recording look
    alike; a short window repeats itself. Training, evaluation and runtime all come through here.
    """
    count = len(cepstra)
    if not 0 < count <= spec.window_frames:
        raise ValueError(f"a window holds 1..{spec.window_frames} frames, got {count}")
    source = np.arange(-spec.window_frames, 0) % count
    window = np.take(cepstra, source, axis=0)
    c0 = cepstra[:, 0]
    half = count // 2
    window[:, 0] -= np.partition(c0, half)[half:].mean(dtype=np.float64)
    return window


class SpeechFrontEnd:
    """Sound in, `FeatureWindow`s out. Any chunking of the same sound gives the same windows."""

    def __init__(self, spec: SpeechSpec) -> None:
        self.spec = spec
        self._mfcc = Mfcc(spec.mfcc)
        self._voice = VoiceActivity(spec.mfcc)
        # Each frame is written twice, so that the newest `window_frames` are always one contiguous slice.
        self._history = np.zeros((2 * spec.window_frames, spec.mfcc.cepstra), np.float32)
        self._voiced = np.zeros(RECENT_FRAMES, np.bool_)
        self._frames = 0
        self._samples = 0

    @property
    def level_dbfs(self) -> float:
        """Level of the newest frame in the speech band, dB relative to a full-scale sine."""
        return self._voice.level_dbfs

    @property
    def speaking(self) -> bool:
        """Whether the last second holds enough voice for the next hop to be used."""
        return int(self._voiced.sum()) >= RECENT_VOICED_FRAMES

    def reset(self) -> None:
        """Start a new signal: after a gap, or another device."""
        self._mfcc.reset()
        self._voice.reset()
        self._voiced[:] = False
        self._frames = 0
        self._samples = 0

    def push(self, block: AudioBlock) -> Iterator[FeatureWindow]:
        """Take the next block, which must follow the one before without a gap; yield the windows that are due."""
        cepstra = self._mfcc.push(block.samples)
        voiced = self._voice.update(self._mfcc.log_mel)
        block_start = self._samples
        self._samples += block.samples.size
        for frame, is_voiced in zip(cepstra, voiced, strict=True):
            slot = self._frames % self.spec.window_frames
            self._history[slot] = self._history[slot + self.spec.window_frames] = frame
            self._voiced[self._frames % RECENT_FRAMES] = is_voiced
            self._frames += 1
            if self._frames % self.spec.hop_frames == 0 and self._frames >= self.spec.min_frames and self.speaking:
                end_sample = (self._frames - 1) * self.spec.mfcc.hop_samples + self.spec.mfcc.window_samples
                offset_ns = (end_sample - block_start) * NS_PER_S // self.spec.mfcc.rate_hz
                yield FeatureWindow(fit_window(self._recent(), self.spec), block.capture_time_ns + offset_ns)

    def last_window(self) -> F32 | None:
        """Return the newest window whether or not anybody speaks, float32 [window_frames, cepstra]; None before any frame."""
        return fit_window(self._recent(), self.spec) if self._frames else None

    def _recent(self) -> F32:
        count = min(self._frames, self.spec.window_frames)
        stop = (self._frames - 1) % self.spec.window_frames + 1 + self.spec.window_frames
        return self._history[stop - count : stop]
