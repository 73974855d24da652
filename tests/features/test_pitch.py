"""Pitch and voicing beside the cepstra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.pitch import REFERENCE_HZ
from moodring.features.spec import SpeechSpec

RATE_HZ = 16_000


def voice(hz: float, seconds: float = 0.5, level: float = 0.1) -> np.ndarray:
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (level * sum(np.sin(2 * np.pi * hz * k * time_s) / k for k in range(1, 6))).astype(np.float32)


def read(samples: np.ndarray, kernel: str = "cv2") -> np.ndarray:
    mfcc = Mfcc(SpeechSpec().mfcc, pitch=True, kernel=kernel)
    mfcc.push(samples)
    return mfcc.pitch.copy()


@pytest.mark.parametrize("kernel", ["cv2", "numpy"])
@pytest.mark.parametrize("hz", [110, 140, 180, 220, 300, 400, 480])
def test_the_pitch_of_a_steady_voice_is_found(hz: float, kernel: str) -> None:
    pitch = read(voice(hz), kernel)[5:-5]
    assert np.median(pitch[:, 1]) > 0.9
    assert REFERENCE_HZ * 2 ** np.median(pitch[:, 0] / pitch[:, 1]) == pytest.approx(hz, rel=0.03)


@given(st.floats(0.001, 0.9))
def test_loudness_does_not_matter(level: float) -> None:
    assert read(voice(200.0, 0.1, level)) == pytest.approx(read(voice(200.0, 0.1, 0.1)), abs=1e-3)


def test_silence_and_noise_have_little_voice() -> None:
    assert (read(np.zeros(RATE_HZ, np.float32)) == 0.0).all()
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32) * 0.1
    assert read(noise)[:, 1].mean() < 0.3


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20))
def test_any_chunking_gives_the_same_bits(sizes: list[int]) -> None:
    samples = np.random.default_rng(1).standard_normal(sum(sizes)).astype(np.float32) * 0.1
    whole = read(samples)
    mfcc = Mfcc(SpeechSpec().mfcc, pitch=True)
    pieces = []
    for piece in np.split(samples, np.cumsum(sizes)[:-1]):
        mfcc.push(piece)
        pieces.append(mfcc.pitch.copy())
    assert (np.concatenate(pieces) == whole).all()


def test_without_it_there_are_zeros() -> None:
    mfcc = Mfcc(SpeechSpec().mfcc)
    mfcc.push(voice(200.0))
    assert (mfcc.pitch == 0.0).all()
