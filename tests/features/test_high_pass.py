"""The high-pass filter: its response, equal output for any chunking, and features that do not depend on offset and hum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from moodring.features.audio.high_pass import HighPass, design
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.window import make_mfcc
from moodring.features.spec import MfccSpec, PreprocessSpec, SpeechSpec
from moodring.types import SAMPLE_RATE_HZ
from tests.support.signals import noise, voice

SPEC = MfccSpec(high_pass_hz=100.0)
SPECS = {"aligned": SPEC, "odd hop": replace(SPEC, hop_samples=161), "shorter first block": replace(SPEC, window_samples=410)}


def response_db(hz: list[float]) -> np.ndarray:
    _, response = signal.freqz_zpk(*design(100.0, SAMPLE_RATE_HZ), worN=hz, fs=SAMPLE_RATE_HZ)
    return 20 * np.log10(np.abs(response) + 1e-12)


def filtered(samples: np.ndarray, chunks: list[int], spec: MfccSpec = SPEC, dtype=np.float32) -> np.ndarray:
    """Return the output for samples that arrive in chunks of these sizes; the rest arrives at once."""
    stream, pieces, position = HighPass(spec, dtype), [], 0
    for size in [*chunks, samples.size]:
        pieces.append(stream.push(samples[position : position + size]).copy())
        position += size
    return np.concatenate(pieces)


def mains(hz: float, count: int, level: float = 0.03) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(count) / SAMPLE_RATE_HZ + 0.3)).astype(np.float32)


def test_hum_and_rumble_are_removed_and_speech_is_not():
    assert (response_db([0, 5, 10, 20, 30, 40, 50, 55, 60, 61]) <= -39.5).all()
    assert response_db([100.0])[0] == pytest.approx(-3.0, abs=0.05)
    assert (np.abs(response_db([150.0, 200.0, 400.0, 1000.0, 4000.0, 7900.0])) < 0.1).all()


@pytest.mark.parametrize("name", SPECS)
def test_the_output_is_that_of_the_direct_form(name: str):
    spec = SPECS[name]
    samples = noise(1.25, 0.1) + np.float32(0.2)
    first_block = {"aligned": 80, "odd hop": 78, "shorter first block": 10}[name]
    before = samples[:first_block].mean(dtype=np.float64)
    sections = signal.zpk2sos(*design(spec.high_pass_hz, SAMPLE_RATE_HZ))
    expected, _ = signal.sosfilt(sections, samples.astype(np.float64), zi=signal.sosfilt_zi(sections) * before)
    for dtype, tolerance in ((np.float32, 2e-6), (np.float64, 1e-9)):
        output = filtered(samples, [], spec, dtype)
        np.testing.assert_allclose(output, expected[: output.size], atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from(list(SPECS)), st.booleans())
def test_any_chunking_gives_the_same_bits(chunks: list[int], name: str, is_int16: bool):
    samples = noise(0.75, 0.2)
    if is_int16:
        samples = (samples * 32_767).astype(np.int16)
    np.testing.assert_array_equal(filtered(samples, chunks, SPECS[name]), filtered(samples, [], SPECS[name]))


def test_the_cepstra_of_a_stream_are_those_of_the_clip():
    samples = voice(2.0)
    whole = Mfcc(SPEC).push(samples).copy()
    stream = Mfcc(SPEC)
    parts = [stream.push(samples[start : start + 777]).copy() for start in range(0, samples.size, 777)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(whole) == len(Mfcc(replace(SPEC, high_pass_hz=0.0)).push(samples))


def test_the_filter_adds_no_delay_to_a_frame():
    stream, plain = Mfcc(SPEC), Mfcc(replace(SPEC, high_pass_hz=0.0))
    for block in np.split(noise(1.0, 0.1), 200):
        assert len(stream.push(block)) == len(plain.push(block))


def test_reset_starts_a_new_signal_and_is_necessary():
    samples, other = noise(0.3, 0.1), noise(0.3, 0.1, seed=4) + np.float32(0.4)
    stream = HighPass(SPEC)
    stream.push(other)
    without_reset = stream.push(samples).copy()
    stream.reset()
    with_reset = stream.push(samples).copy()
    np.testing.assert_array_equal(with_reset, filtered(samples, []))
    assert not np.array_equal(with_reset, without_reset[: with_reset.size])


@pytest.mark.parametrize("offset", [-0.5, -0.05, 0.02, 0.1, 0.5])
def test_an_offset_leaves_nothing_behind(offset: float):
    silence = np.full(32_000, offset, np.float32)
    assert np.abs(filtered(silence, [])).max() < 1e-6


@pytest.mark.parametrize(
    "fault",
    [
        lambda count: np.full(count, 0.1, np.float32),
        lambda count: mains(50.0, count),
        lambda count: mains(60.0, count),
        lambda count: mains(18.0, count, 0.2),
        lambda count: mains(5.0, count, 0.3),
    ],
    ids=["offset", "50 Hz", "60 Hz", "rumble of 18 Hz", "wind of 5 Hz"],
)
def test_cepstra_of_voice_do_not_depend_on_the_fault(fault):
    samples = voice(3.0) + noise(3.0, 1e-3)
    faulty = samples + fault(samples.size)

    def features(sound: np.ndarray, high_pass_hz: float) -> np.ndarray:
        return Mfcc(replace(SPEC, high_pass_hz=high_pass_hz)).push(sound)[10:].copy()

    def change(high_pass_hz: float) -> float:
        return float(np.abs(features(faulty, high_pass_hz) - features(samples, high_pass_hz)).mean())

    assert change(100.0) < 0.12 * np.abs(features(samples, 100.0)).mean()
    assert change(100.0) < 0.25 * change(0.0)


def test_with_a_floor_the_dither_of_16_bits_does_not_differ_from_silence():
    """Programs that shift or convert sound add dither, which turns digital silence into noise of one bit."""
    silent = np.concatenate([voice(1.0), np.zeros(16_000, np.float32)])
    dither = np.random.default_rng(1).triangular(-1, 0, 1, silent.size) / 32_768
    shifted = (silent + dither + 0.05).astype(np.float32)

    def change(mel_floor: float) -> float:
        spec = SpeechSpec(mfcc=replace(SPEC, mel_floor=mel_floor))
        features = [make_mfcc(spec).push(sound).copy() for sound in (silent, shifted)]
        return float(np.abs(features[0] - features[1])[110:].max())

    assert change(0.0) > 20.0
    assert change(4.0) < 2.0


def test_a_spec_without_the_filter_keeps_its_hash():
    plain = PreprocessSpec()
    assert not {"high_pass_hz", "mel_floor"} & set(plain.to_dict()["speech"]["mfcc"])
    with_filter = PreprocessSpec(speech=SpeechSpec(mfcc=SPEC))
    assert with_filter.hash() != plain.hash()
    assert PreprocessSpec.from_dict(with_filter.to_dict()) == with_filter
    assert PreprocessSpec.from_dict(plain.to_dict()) == plain


@pytest.mark.parametrize("mel_floor", [-1.0, 1e7, float("nan")])
def test_a_floor_outside_the_limits_is_rejected(mel_floor: float):
    with pytest.raises(ValueError, match="mel_floor"):
        MfccSpec(mel_floor=mel_floor)


@pytest.mark.parametrize("cutoff_hz", [-1.0, 10.0, 301.0, float("nan")])
def test_a_cutoff_outside_the_limits_is_rejected(cutoff_hz: float):
    with pytest.raises(ValueError, match="high_pass_hz"):
        MfccSpec(high_pass_hz=cutoff_hz)
