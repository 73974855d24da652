"""Input windows of the speech branch: the last seconds of cepstra, emitted at a fixed hop while enough frames contain voice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from moodring.clock import NS_PER_S
from moodring.features.audio.baseline import BaselineInfo, VoiceBaseline
from moodring.features.audio.denoise import NoiseReduction
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.spectrum import KernelName
from moodring.features.audio.voice_activity import VoiceActivityDetector, voice_bands
from moodring.features.spec import PITCH_COLUMNS, SpeechSpec
from moodring.types import F32, AudioBlock, FeatureWindow

BATCH_FRAMES = 10  # frames are processed in batches of this size: a batch costs little more than one frame
# A window is emitted if at least MIN_RECENT_VOICED_FRAMES of the last RECENT_FRAMES (one second) are voiced, and at least
# MIN_VOICED_FRAMES of the whole window: with fewer voiced frames, 40 % of the outputs are correct; with twice as many, 60 %.
RECENT_FRAMES = 100
MIN_RECENT_VOICED_FRAMES = 20
MIN_VOICED_FRAMES = 75
# Below STABLE_VOICED_FRAMES the output still changes: the next window follows after SHORT_HOP_FRAMES.
STABLE_VOICED_FRAMES = 200
SHORT_HOP_FRAMES = 30


def deltas(features: F32, width: int = 2) -> F32:
    """Return the slope of each column over 2 width + 1 frames, float32 [n, C]. The first and last frames are repeated.

    The regression of python_speech_features and HTK: sum k (f[t+k] - f[t-k]) / (2 sum k^2).
    """
    padded = np.pad(features, ((width, width), (0, 0)), mode="edge")
    count = len(features)
    slopes = sum(
        k * (padded[width + k : width + k + count] - padded[width - k : width - k + count]) for k in range(1, width + 1)
    )
    return np.asarray(slopes / (2.0 * sum(k * k for k in range(1, width + 1))), np.float32)


def make_window_input(features: F32, spec: SpeechSpec) -> F32:
    """Return a network input float32 [window_frames, columns] from float32 [n, C], 1..window_frames frames, newest last.

    It is `remove_level`, repeated to full length. Training, evaluation and runtime all use this function. Raises ValueError on
    another number of frames.
    """
    return repeat_to_full_length(remove_level(features, spec), spec)


def repeat_to_full_length(frames: F32, spec: SpeechSpec) -> F32:
    """Return float32 [window_frames, columns]: frames [n, columns], repeated; the newest ones are last."""
    return np.take(frames, np.arange(-spec.window_frames, 0) % len(frames), axis=0)


def remove_level(features: F32, spec: SpeechSpec) -> F32:
    """Return the frames of a window without their level, and with deltas, float32 [n, columns].

    A frame [C] contains the features, then pitch and voicing if the spec includes them. The mean level of the louder half of
    the frames is subtracted, so that the input does not depend on the recording level. Raises ValueError on another number of
    frames than 1..window_frames.
    """
    count = len(features)
    if not 0 < count <= spec.window_frames:
        raise ValueError(f"a window must have 1..{spec.window_frames} frames, got {count}")
    window = features.copy()
    features_only = window[:, : spec.features]
    levels = features_only.mean(axis=1) if spec.mfcc.output == "log_mel" else features_only[:, 0]
    level = np.partition(levels, count // 2)[count // 2 :].mean(dtype=np.float64)
    features_only[:, : 1 if spec.mfcc.output == "cepstra" else None] -= np.float32(level)
    columns = [features_only]
    for _ in range(spec.deltas):
        columns.append(deltas(columns[-1]))
    return np.concatenate([*columns, window[:, spec.features :]], axis=1) if spec.deltas else window


def make_mfcc(spec: SpeechSpec, kernel: KernelName = "cv2") -> Mfcc:
    """Return the MFCC of the spec with its noise tracking. Training and runtime both use it."""
    return Mfcc(spec.mfcc, noise=make_noise_reduction(spec), pitch=spec.pitch, kernel=kernel)


def make_noise_reduction(spec: SpeechSpec, streams: tuple[int, ...] = ()) -> NoiseReduction:
    """Return the noise tracker of the spec, for one stream or for an array of `streams` at once."""
    reduce = spec.noise_reduction == "wiener"
    return NoiseReduction((*streams, spec.mfcc.filters), voice_bands(spec.mfcc), np.float32, reduce=reduce)


class SpeechFrontEnd:
    """Turns a stream of sound into `FeatureWindow`s. Any chunking of the same sound gives the same windows.

    With `baseline`, the mean of the voice so far is subtracted from each window (moodring.features.audio.baseline).
    """

    def __init__(self, spec: SpeechSpec, kernel: KernelName = "cv2", baseline: BaselineInfo | None = None) -> None:
        self.spec = spec
        self._baseline = None if baseline is None else VoiceBaseline(baseline)
        self._mfcc = make_mfcc(spec, kernel)
        self._vad = VoiceActivityDetector(spec.mfcc)
        # Each frame is stored twice, so that the newest `window_frames` frames are always one contiguous slice.
        self._history = np.zeros((2 * spec.window_frames, spec.features + PITCH_COLUMNS * spec.pitch), np.float32)
        self._voiced = np.zeros(2 * spec.window_frames, np.bool_)
        self._batch_frames = math.gcd(spec.hop_frames, BATCH_FRAMES)
        self._frames = 0
        self._frames_in_baseline = 0  # of `_frames`
        self._next_window_frame = spec.min_frames  # no window ends before this frame
        self._samples = 0

    @property
    def level_dbfs(self) -> float:
        """Level of the newest frame in the speech band after noise reduction, in dB relative to a full-scale sine."""
        return float(self._vad.level_dbfs)

    @property
    def is_speech_active(self) -> bool:
        """Whether the last second and the window contain enough voiced frames for a window to be emitted."""
        voiced = self._voiced[self._recent_slice()]
        return int(voiced[-RECENT_FRAMES:].sum()) >= MIN_RECENT_VOICED_FRAMES and int(voiced.sum()) >= MIN_VOICED_FRAMES

    @property
    def samples_to_next_batch(self) -> int:
        """Number of samples that complete the next batch of frames. Windows end only at the end of a batch."""
        last_frame = (self._frames // self._batch_frames + 1) * self._batch_frames - 1
        return max(1, last_frame * self.spec.mfcc.hop_samples + self.spec.mfcc.window_samples - self._samples)

    def reset(self, *, keep_voice: bool = False) -> None:
        """Start a new signal; `keep_voice` keeps the baseline, for example after a gap in the sound of the same microphone."""
        if self._baseline is not None and not keep_voice:
            self._baseline.reset()
        self._frames_in_baseline = 0
        self._mfcc.reset()
        self._vad.reset()
        self._voiced[:] = False
        self._frames = 0
        self._next_window_frame = self.spec.min_frames
        self._samples = 0

    def push(self, block: AudioBlock) -> Iterator[FeatureWindow]:
        """Process the next block, which must follow the previous one without a gap; yield the windows that are due.

        Raises ValueError on invalid samples (moodring.features.audio.mfcc.check_samples) and then leaves the state unchanged.
        """
        cepstra = self._mfcc.push(block.samples)
        voiced = self._vad.update(self._mfcc.log_mel, self._mfcc.likelihood)
        block_start = self._samples
        self._samples += block.samples.size
        for frame, pitch, is_voiced in zip(cepstra, self._mfcc.pitch, voiced, strict=True):
            slot = self._frames % self.spec.window_frames
            for row in (slot, slot + self.spec.window_frames):
                self._history[row, : self.spec.features] = frame
                if self.spec.pitch:
                    self._history[row, self.spec.features :] = pitch
                self._voiced[row] = is_voiced
            self._frames += 1
            if self._frames >= self._next_window_frame and self._frames % self._batch_frames == 0 and self.is_speech_active:
                end_sample = (self._frames - 1) * self.spec.mfcc.hop_samples + self.spec.mfcc.window_samples
                offset_ns = (end_sample - block_start) * NS_PER_S // self.spec.mfcc.rate_hz
                window = self._window(block.capture_time_ns + offset_ns)
                self._next_window_frame = self._frames + self._next_hop(window.voiced)
                yield window

    def last_window(self, capture_time_ns: int) -> FeatureWindow | None:
        """Return the newest window, with or without speech; None before the first frame."""
        return self._window(capture_time_ns) if self._frames else None

    def _next_hop(self, voiced: float) -> int:
        """Return the number of frames until the next window; `voiced` is the fraction of voiced frames of the last one."""
        is_stable = round(voiced * self.spec.window_frames) >= STABLE_VOICED_FRAMES
        return self.spec.hop_frames if is_stable else min(self.spec.hop_frames, SHORT_HOP_FRAMES)

    def _window(self, capture_time_ns: int) -> FeatureWindow:
        recent = self._recent_slice()
        is_voiced = self._voiced[recent]
        frames = remove_level(self._history[recent], self.spec)
        settled = None
        if self._baseline is not None:
            new = min(self._frames - self._frames_in_baseline, len(frames))
            self._frames_in_baseline = self._frames
            self._baseline.update(frames[len(frames) - new :][is_voiced[len(frames) - new :]])
            frames -= self._baseline.offset
            settled = self._baseline.settled
        voiced = int(is_voiced.sum()) / self.spec.window_frames
        return FeatureWindow(repeat_to_full_length(frames, self.spec), capture_time_ns, voiced, settled)

    def _recent_slice(self) -> slice:
        """Return the slice of the newest frames, at most `window_frames` of them."""
        count = min(self._frames, self.spec.window_frames)
        stop = (self._frames - 1) % self.spec.window_frames + 1 + self.spec.window_frames
        return slice(stop - count, stop)
