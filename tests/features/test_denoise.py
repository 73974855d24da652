"""Noise reduction: takes noise, leaves voice, knows which is which; the same for any chunking; forgets when told to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.features.audio.denoise import NoiseReduction
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.window import make_mfcc, make_noise_reduction
from moodring.features.spec import MfccSpec, SpeechSpec
from tests.support.signals import noise, voice

SPEC = SpeechSpec(noise_reduction="wiener")
MINUS_30_DB = 10 ** (-30 / 20)
BURST = slice(16_000 * 3, 16_000 * 4)
BURST_FRAMES = slice(305, 390)


def energies_of(sound: np.ndarray) -> np.ndarray:
    """Mel energies as they are, float32 [frames, bands]."""
    mfcc = Mfcc(MfccSpec())
    mfcc.push(sound)
    return np.exp(mfcc.log_mel)


def reduced(energies: np.ndarray, tracker: NoiseReduction | None = None) -> tuple[np.ndarray, np.ndarray]:
    energies, likelihood = energies.copy(), np.zeros(energies.shape[:-1])
    (tracker or make_noise_reduction(SPEC)).apply(energies, likelihood)
    return energies, likelihood


def gain_db(before: np.ndarray, after: np.ndarray) -> float:
    return 10 * np.log10(after.sum(dtype=np.float64) / before.sum(dtype=np.float64))


def tone(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 1000 * np.arange(round(16_000 * seconds)) / 16_000)).astype(np.float32)


def in_noise(burst: np.ndarray, level: float = MINUS_30_DB) -> np.ndarray:
    sound = noise(5.0, level)
    sound[BURST] += burst
    return sound


SOUND = np.concatenate([in_noise(voice(1.0)), np.zeros(8000, np.float32), voice(1.0), noise(1.0, 0.2)])
ENERGIES = energies_of(SOUND)


@pytest.mark.parametrize("level", [0.001, MINUS_30_DB, 0.1])
def test_steady_noise_is_taken_out_after_two_seconds(level: float):
    before = energies_of(noise(6.0, level))
    after, _ = reduced(before)
    assert gain_db(before[200:], after[200:]) <= -10
    assert (after >= before * 0.00999).all()  # a trace stays
    assert (after <= before * 1.00001).all()


@pytest.mark.parametrize("burst", [tone(1.0), voice(1.0)], ids=["tone", "voice"])
def test_what_rises_above_the_noise_stays(burst: np.ndarray):
    before = energies_of(in_noise(burst))
    after, _ = reduced(before)
    loud = before[BURST_FRAMES] > 10 * before[200:290].mean(axis=0)  # the bands that the burst is in
    assert loud.sum() >= 100
    assert gain_db(before[BURST_FRAMES][loud], after[BURST_FRAMES][loud]) > -3
    assert gain_db(before[450:], after[450:]) <= -10


def test_voice_without_noise_stays():
    before = energies_of(np.concatenate([np.zeros(16_000, np.float32), voice(3.0)]))
    after, _ = reduced(before)
    assert gain_db(before, after) == pytest.approx(0.0, abs=3.0)


def test_the_likelihood_is_high_on_voice_and_low_on_noise():
    _, likelihood = reduced(energies_of(in_noise(voice(1.0))))
    assert np.median(likelihood[BURST_FRAMES]) > 2.0
    assert np.abs(likelihood[200:295]).mean() < 0.3
    assert np.abs(likelihood[430:]).mean() < 0.3


def test_where_it_is_not_to_reduce_it_only_listens():
    listener = make_noise_reduction(SpeechSpec(noise_reduction="none"))
    untouched, heard = reduced(ENERGIES, listener)
    np.testing.assert_array_equal(untouched, ENERGIES)
    np.testing.assert_array_equal(heard, reduced(ENERGIES)[1])


def test_many_streams_at_once_are_each_one_by_itself():
    streams = [ENERGIES[:300], energies_of(noise(3.1, 0.05))[:300], energies_of(voice(3.1))[:300]]
    together, likelihoods = reduced(np.stack(streams, axis=1), make_noise_reduction(SPEC, (3,)))
    for index, stream in enumerate(streams):
        alone, likelihood = reduced(stream)
        np.testing.assert_array_equal(together[:, index], alone)
        np.testing.assert_allclose(likelihoods[:, index], likelihood, rtol=1e-5, atol=1e-5)


@given(sizes=st.lists(st.integers(0, 120), max_size=30))
@settings(max_examples=15)
def test_any_chunking_gives_the_same_bits(sizes: list[int]):
    tracker = make_noise_reduction(SPEC)
    pieces, position = [], 0
    for size in (*sizes, len(ENERGIES)):
        pieces.append(reduced(ENERGIES[position : position + size], tracker))
        position += size
    for stream, clip in zip(zip(*pieces, strict=True), reduced(ENERGIES), strict=True):
        np.testing.assert_array_equal(np.concatenate(stream), clip)


def test_reset_forgets_the_noise_and_forgetting_it_shows():
    tracker = make_noise_reduction(SPEC)
    loud, quiet = energies_of(noise(2.0, 0.2)), energies_of(noise(1.0, 0.01))
    first = reduced(quiet, tracker)
    tracker.reset()
    reduced(loud, tracker)
    forgotten = reduced(quiet, tracker)
    assert not np.array_equal(forgotten[0], first[0])
    assert not np.array_equal(forgotten[1], first[1])
    tracker.reset()
    for again, before in zip(reduced(quiet, tracker), first, strict=True):
        np.testing.assert_array_equal(again, before)


@pytest.mark.parametrize("kernel", ["cv2", "numpy"])
@pytest.mark.parametrize("noise_reduction", ["none", "wiener"])
def test_digital_silence_and_what_follows_give_numbers_and_no_warnings(kernel: str, noise_reduction: str):
    silence = np.zeros(48_000, np.float32)
    square = np.sign(tone(1.0)).astype(np.float32)
    mfcc = make_mfcc(SpeechSpec(noise_reduction=noise_reduction), kernel)
    with np.errstate(all="raise", under="ignore"):  # what decays to nothing is meant to
        for sound in (
            silence,
            voice(1.0),
            silence,
            square,
            np.full(16_000, 0.5, np.float32),
            silence,
            noise(1.0),
            tone(1.0, 1e-6),
        ):
            assert np.isfinite(mfcc.push(sound)).all()
            assert np.isfinite(mfcc.log_mel).all()
            assert np.isfinite(mfcc.likelihood).all()


def test_no_frames_change_nothing():
    tracker = make_noise_reduction(SPEC)
    tracker.apply(np.zeros((0, 40), np.float32), np.zeros(0))
    np.testing.assert_array_equal(reduced(ENERGIES, tracker)[0], reduced(ENERGIES)[0])
