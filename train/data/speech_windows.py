"""The windows that the runtime reads of recordings, and the probabilities of a recording from those of its windows.

A recording's probabilities are the mean over its windows with the most voiced frames, as in moodring.evaluation.speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodring.evaluation import speech as evaluation
from moodring.features.spec import SpeechSpec
from moodring.labels import CLASSES
from moodring.train.calibration import softmax
from moodring.train.data.voices import Utterance
from moodring.types import F32

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SpeechWindows:
    """The windows that the runtime reads of C recordings: `windows` float32 [W, window_frames, columns].

    `clip_index` [W] is the recording of each window, `weights` [W] whether the window is one with the most voiced frames of its
    recording, `labels` [C] the labels of the recordings.
    """

    windows: F32
    clip_index: I64
    labels: I64
    weights: NDArray[np.bool_]


def extract_windows(voices: Sequence[Utterance], spec: SpeechSpec) -> SpeechWindows:
    """Return the windows of these recordings, one recording after another."""
    pieces = [evaluation.clip_windows(voice.samples, spec) for voice in voices]
    clip_index = np.repeat(np.arange(len(voices)), [len(piece) for piece in pieces])
    windows = [window for piece in pieces for window in piece]
    voiced = np.array([window.voiced for window in windows])
    max_voiced = np.zeros(len(voices))
    np.maximum.at(max_voiced, clip_index, voiced)
    labels = np.array([voice.label for voice in voices], np.int64)
    weights = voiced == max_voiced[clip_index]
    return SpeechWindows(np.stack([window.features for window in windows]), clip_index, labels, weights)


def clip_probabilities(logits: F32, speech_windows: SpeechWindows, temperature: float = 1.0) -> tuple[NDArray[np.float64], I64]:
    """Return the probabilities [C, 8] and labels [C] of the recordings, from logits [W, 8] of their windows.

    Recordings without a window are left out.
    """
    sums = np.zeros((len(speech_windows.labels), CLASSES))
    np.add.at(sums, speech_windows.clip_index, speech_windows.weights[:, None] * softmax(logits, temperature))
    has_windows = sums.sum(axis=1) > 0
    return sums[has_windows] / sums[has_windows].sum(axis=1, keepdims=True), speech_windows.labels[has_windows]
