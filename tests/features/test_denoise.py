"""Noise reduction: attenuates noise, preserves voice, gives the likelihood of speech; independent of chunking; reset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.features.audio.denoise import NoiseReduction
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.window import make_mfcc, make_noise_reduction
from moodring.features.spec import MfccSpec, SpeechSpec
from moodring.types import SAMPLE_RATE_HZ
from tests.support.signals import noise, voice

SPEC = SpeechSpec(noise_reduction="wiener")
MINUS_30_DB = 10 ** (-30 / 20)
BURST = slice(3 * SAMPLE_RATE_HZ, 4 * SAMPLE_RATE_HZ)
BURST_FRAMES = slice(305, 390)


def mel_energies(sound: np.ndarray) -> np.ndarray:
    """Return mel energies without noise reduction, float32 [frames, bands]."""
    mfcc = Mfcc(MfccSpec())
    mfcc.push(sound)
    return np.exp(mfcc.log_mel)


def reduce_noise(energies: np.ndarray, tracker: NoiseReduction | None = None) -> tuple[np.ndarray, np.ndarray]:
    energies, likelihood = energies.copy(), np.zeros(energies.shape[:-1])
    (tracker or make_noise_reduction(SPEC)).apply(energies, likelihood)
    return energies, likelihood


def gain_db(before: np.ndarray, after: np.ndarray) -> float:
    return 10 * np.log10(after.sum(dtype=np.float64) / before.sum(dtype=np.float64))


def tone(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 1000 * np.arange(round(SAMPLE_RATE_HZ * seconds)) / SAMPLE_RATE_HZ)).astype(np.float32)


def add_to_noise(burst: np.ndarray, level: float = MINUS_30_DB) -> np.ndarray:
    sound = noise(5.0, level)
    sound[BURST] += burst
    return sound


SOUND = np.concatenate([add_to_noise(voice(1.0)), np.zeros(8000, np.float32), voice(1.0), noise(1.0, 0.2)])
ENERGIES = mel_energies(SOUND)


@pytest.mark.parametrize("level", [0.001, MINUS_30_DB, 0.1])
def test_steady_noise_is_attenuated_after_two_seconds(level: float):
    before = mel_energies(noise(6.0, level))
    after, _ = reduce_noise(before)
    assert gain_db(before[200:], after[200:]) <= -10
    assert (after >= before * 0.00999).all()  # the gain floor of -20 dB
    assert (after <= before * 1.00001).all()


@pytest.mark.parametrize("burst", [tone(1.0), voice(1.0)], ids=["tone", "voice"])
def test_signal_above_the_noise_is_preserved(burst: np.ndarray):
    before = mel_energies(add_to_noise(burst))
    after, _ = reduce_noise(before)
    loud = before[BURST_FRAMES] > 10 * before[200:290].mean(axis=0)  # the bands of the burst
    assert loud.sum() >= 100
    assert gain_db(before[BURST_FRAMES][loud], after[BURST_FRAMES][loud]) > -3
    assert gain_db(before[450:], after[450:]) <= -10


def test_voice_without_noise_is_preserved():
    before = mel_energies(np.concatenate([np.zeros(SAMPLE_RATE_HZ, np.float32), voice(3.0)]))
    after, _ = reduce_noise(before)
    assert gain_db(before, after) == pytest.approx(0.0, abs=3.0)


def test_likelihood_is_high_on_voice_and_low_on_noise():
    _, likelihood = reduce_noise(mel_energies(add_to_noise(voice(1.0))))
    assert np.median(likelihood[BURST_FRAMES]) > 2.0
    assert np.abs(likelihood[200:295]).mean() < 0.3
    assert np.abs(likelihood[430:]).mean() < 0.3


def test_without_reduction_energies_are_unchanged_and_likelihood_is_the_same():
    tracker = make_noise_reduction(SpeechSpec(noise_reduction="none"))
    energies, likelihood = reduce_noise(ENERGIES, tracker)
    np.testing.assert_array_equal(energies, ENERGIES)
    np.testing.assert_array_equal(likelihood, reduce_noise(ENERGIES)[1])


def test_several_streams_at_once_equal_each_stream_alone():
    streams = [ENERGIES[:300], mel_energies(noise(3.1, 0.05))[:300], mel_energies(voice(3.1))[:300]]
    together, likelihoods = reduce_noise(np.stack(streams, axis=1), make_noise_reduction(SPEC, (3,)))
    for index, stream in enumerate(streams):
        alone, likelihood = reduce_noise(stream)
        np.testing.assert_array_equal(together[:, index], alone)
        np.testing.assert_allclose(likelihoods[:, index], likelihood, rtol=1e-5, atol=1e-5)


@given(sizes=st.lists(st.integers(0, 120), max_size=30))
@settings(max_examples=15)
def test_chunking_does_not_change_the_bits(sizes: list[int]):
    tracker = make_noise_reduction(SPEC)
    pieces, position = [], 0
    for size in (*sizes, len(ENERGIES)):
        pieces.append(reduce_noise(ENERGIES[position : position + size], tracker))
        position += size
    for stream, clip in zip(zip(*pieces, strict=True), reduce_noise(ENERGIES), strict=True):
        np.testing.assert_array_equal(np.concatenate(stream), clip)


def test_reset_clears_the_noise_floor():
    tracker = make_noise_reduction(SPEC)
    loud, quiet = mel_energies(noise(2.0, 0.2)), mel_energies(noise(1.0, 0.01))
    first = reduce_noise(quiet, tracker)
    tracker.reset()
    reduce_noise(loud, tracker)
    without_reset = reduce_noise(quiet, tracker)
    assert not np.array_equal(without_reset[0], first[0])
    assert not np.array_equal(without_reset[1], first[1])
    tracker.reset()
    for again, before in zip(reduce_noise(quiet, tracker), first, strict=True):
        np.testing.assert_array_equal(again, before)


@pytest.mark.parametrize("kernel", ["cv2", "numpy"])
@pytest.mark.parametrize("noise_reduction", ["none", "wiener"])
def test_output_is_finite_without_warnings_around_digital_silence(kernel: str, noise_reduction: str):
    silence = np.zeros(48_000, np.float32)
    square = np.sign(tone(1.0)).astype(np.float32)
    mfcc = make_mfcc(SpeechSpec(noise_reduction=noise_reduction), kernel)
    with np.errstate(all="raise", under="ignore"):  # underflow is expected where a value decays to zero
        for sound in (
            silence,
            voice(1.0),
            silence,
            square,
            np.full(SAMPLE_RATE_HZ, 0.5, np.float32),
            silence,
            noise(1.0),
            tone(1.0, 1e-6),
        ):
            assert np.isfinite(mfcc.push(sound)).all()
            assert np.isfinite(mfcc.log_mel).all()
            assert np.isfinite(mfcc.likelihood).all()


def test_zero_frames_do_not_change_the_state():
    tracker = make_noise_reduction(SPEC)
    tracker.apply(np.zeros((0, 40), np.float32), np.zeros(0))
    np.testing.assert_array_equal(reduce_noise(ENERGIES, tracker)[0], reduce_noise(ENERGIES)[0])
