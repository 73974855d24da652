"""Pitch and voicing: accuracy, independence of loudness and chunking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.pitch import REFERENCE_HZ
from moodring.features.spec import SpeechSpec
from moodring.types import SAMPLE_RATE_HZ


def harmonic_tone(hz: float, seconds: float = 0.5, level: float = 0.1) -> np.ndarray:
    time_s = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (level * sum(np.sin(2 * np.pi * hz * k * time_s) / k for k in range(1, 6))).astype(np.float32)


def pitch_of(samples: np.ndarray, kernel: str = "cv2") -> np.ndarray:
    mfcc = Mfcc(SpeechSpec().mfcc, pitch=True, kernel=kernel)
    mfcc.push(samples)
    return mfcc.pitch.copy()


@pytest.mark.parametrize("kernel", ["cv2", "numpy"])
@pytest.mark.parametrize("hz", [110, 140, 180, 220, 300, 400, 480])
def test_pitch_of_a_steady_tone_is_accurate(hz: float, kernel: str) -> None:
    pitch = pitch_of(harmonic_tone(hz), kernel)[5:-5]
    assert np.median(pitch[:, 1]) > 0.9
    assert REFERENCE_HZ * 2 ** np.median(pitch[:, 0] / pitch[:, 1]) == pytest.approx(hz, rel=0.03)


@given(st.floats(0.001, 0.9))
def test_pitch_does_not_depend_on_loudness(level: float) -> None:
    assert pitch_of(harmonic_tone(200.0, 0.1, level)) == pytest.approx(pitch_of(harmonic_tone(200.0, 0.1, 0.1)), abs=1e-3)


def test_silence_and_noise_have_low_voicing() -> None:
    assert (pitch_of(np.zeros(SAMPLE_RATE_HZ, np.float32)) == 0.0).all()
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ).astype(np.float32) * 0.1
    assert pitch_of(noise)[:, 1].mean() < 0.3


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20))
def test_chunking_does_not_change_the_bits(sizes: list[int]) -> None:
    samples = np.random.default_rng(1).standard_normal(sum(sizes)).astype(np.float32) * 0.1
    whole = pitch_of(samples)
    mfcc = Mfcc(SpeechSpec().mfcc, pitch=True)
    outputs = []
    for segment in np.split(samples, np.cumsum(sizes)[:-1]):
        mfcc.push(segment)
        outputs.append(mfcc.pitch.copy())
    assert (np.concatenate(outputs) == whole).all()


def test_pitch_is_zero_if_disabled() -> None:
    mfcc = Mfcc(SpeechSpec().mfcc)
    mfcc.push(harmonic_tone(200.0))
    assert (mfcc.pitch == 0.0).all()
