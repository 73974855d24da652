"""Cepstra: what the reference says, the same for any chunking, and nothing from what is not sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_speech_features import mfcc as reference_mfcc

from edge.evaluation.readers import read_sound
from edge.features.mfcc import Mfcc, mel_filters
from edge.features.spec import MfccSpec
from tests.support.signals import noise, voice

RATE_HZ = 16_000
TOLERANCE = 1e-3
WINDOWS = {"hamming": np.hamming, "rectangular": np.ones}


def reference(samples: np.ndarray, spec: MfccSpec) -> np.ndarray:
    """What python_speech_features gives, without its last, padded frame."""
    cepstra = reference_mfcc(
        samples.astype(np.float64) * (spec.sample_scale if samples.dtype == np.float32 else 1.0),
        samplerate=spec.rate_hz,
        winlen=spec.window_samples / spec.rate_hz,
        winstep=spec.hop_samples / spec.rate_hz,
        numcep=spec.cepstra,
        nfilt=spec.filters,
        nfft=spec.fft_size,
        lowfreq=spec.low_hz,
        highfreq=spec.high_hz,
        preemph=spec.pre_emphasis,
        ceplifter=spec.lifter,
        appendEnergy=spec.energy_as_c0,
        winfunc=WINDOWS[spec.window],
    )
    return cepstra[: max(0, (samples.size - spec.window_samples) // spec.hop_samples + 1)]


def sine(level: float) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)


SOUNDS = {
    "noise": noise(1.0),
    "loud sine": sine(1.0),
    "quiet sine": sine(1e-4),
    "silence": np.zeros(RATE_HZ, np.float32),
    "clipping": (5 * sine(1.0)).clip(-1, 1),
    "DC offset": noise(1.0, 0.01) + np.float32(0.5),
    "DC alone": np.full(RATE_HZ, 0.25, np.float32),
    "voice": voice(1.0),
    "one click": np.eye(1, RATE_HZ, 5000, dtype=np.float32)[0],
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_cepstra_are_those_of_the_reference(sound: str):
    cepstra = Mfcc(MfccSpec()).push(SOUNDS[sound])
    expected = reference(SOUNDS[sound], MfccSpec())
    assert cepstra.shape == expected.shape == (98, 40)
    assert cepstra.dtype == np.float32
    np.testing.assert_allclose(cepstra, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "spec",
    [
        MfccSpec(filters=26, cepstra=13, low_hz=0.0),
        MfccSpec(window="rectangular"),
        MfccSpec(lifter=0),
        MfccSpec(energy_as_c0=True),
        MfccSpec(pre_emphasis=0.0),
        MfccSpec(rate_hz=8000, window_samples=200, hop_samples=80, fft_size=256, filters=26, cepstra=20, high_hz=4000),
        MfccSpec(hop_samples=400),
        MfccSpec(window_samples=512, hop_samples=100, fft_size=1024),
    ],
    ids=lambda spec: f"{spec.rate_hz}-{spec.filters}-{spec.window}-{spec.lifter}-{spec.hop_samples}",
)
def test_every_setting_means_what_it_means_in_the_reference(spec: MfccSpec):
    np.testing.assert_allclose(Mfcc(spec).push(SOUNDS["noise"]), reference(SOUNDS["noise"], spec), rtol=0, atol=TOLERANCE)


def test_int16_and_float_give_the_same():
    pcm = np.round(SOUNDS["voice"] * 32767).astype(np.int16)
    from_int = Mfcc(MfccSpec()).push(pcm).copy()
    from_float = Mfcc(MfccSpec()).push((pcm / 32768).astype(np.float32))
    np.testing.assert_array_equal(from_int, from_float)
    np.testing.assert_allclose(from_int, reference(pcm, MfccSpec()), rtol=0, atol=TOLERANCE)


@pytest.mark.data
def test_real_speech_gives_the_cepstra_of_the_reference(data_part):
    paths = (
        sorted(data_part("ravdess").glob("Actor_0[1-4]/*-01.flac"))[:4] + sorted(data_part("ravdess/Actor_20").iterdir())[:4]
    )
    assert len(paths) >= 4
    for path in paths:
        samples = read_sound(path)
        assert samples.size > RATE_HZ
        cepstra = Mfcc(MfccSpec()).push(samples)
        np.testing.assert_allclose(cepstra, reference(samples, MfccSpec()), rtol=0, atol=TOLERANCE)


def test_a_flush_pads_the_last_frame_as_the_reference_does():
    samples = SOUNDS["noise"][: 16_000 - 100]
    mfcc = Mfcc(MfccSpec())
    cepstra = np.concatenate([mfcc.push(samples).copy(), mfcc.flush()])
    padded = np.concatenate([samples, np.zeros(400, np.float32)])
    # The reference pads after pre-emphasis; so does flush. Pre-emphasis of appended zeros would leak one sample.
    expected = reference(padded, MfccSpec())[: len(cepstra)]
    np.testing.assert_allclose(cepstra[:-1], expected[:-1], rtol=0, atol=TOLERANCE)
    whole = reference_mfcc(
        samples.astype(np.float64) * 32768, 16_000, nfft=512, numcep=40, nfilt=40, lowfreq=20, highfreq=8000, ceplifter=22,
        appendEnergy=False, winfunc=np.hamming,
    )  # fmt: skip
    assert len(cepstra) == len(whole)
    np.testing.assert_allclose(cepstra, whole, rtol=0, atol=TOLERANCE)


signals = st.builds(
    lambda size, seed, kind: (
        noise(size / RATE_HZ, 0.2, seed) if kind == "float32" else (noise(size / RATE_HZ, 0.2, seed) * 32767).astype(np.int16)
    ),
    st.integers(0, 20_000),
    st.integers(0, 100),
    st.sampled_from(["float32", "int16"]),
)
cuts = st.lists(st.one_of(st.integers(0, 30), st.integers(100, 900), st.integers(3000, 9000)), max_size=40)


@settings(max_examples=60)
@given(signal=signals, sizes=cuts)
def test_any_chunking_gives_the_same_bits(signal: np.ndarray, sizes: list[int]):
    spec = MfccSpec()
    whole = Mfcc(spec)
    clip, clip_mel = whole.push(signal).copy(), whole.log_mel.copy()
    stream = Mfcc(spec)
    pieces, mels, position = [], [], 0
    for size in (*sizes, signal.size):
        pieces.append(stream.push(signal[position : position + size]).copy())
        mels.append(stream.log_mel.copy())
        position = min(position + size, signal.size)
    np.testing.assert_array_equal(np.concatenate(pieces), clip)
    np.testing.assert_array_equal(np.concatenate(mels), clip_mel)


def test_one_sample_at_a_time_gives_the_same_bits():
    signal = SOUNDS["voice"][:2000]
    stream = Mfcc(MfccSpec())
    pieces = [stream.push(signal[i : i + 1]).copy() for i in range(signal.size)]
    np.testing.assert_array_equal(np.concatenate(pieces), Mfcc(MfccSpec()).push(signal))


def test_reset_starts_a_new_signal_and_forgetting_it_shows():
    mfcc = Mfcc(MfccSpec())
    first = mfcc.push(SOUNDS["voice"][:5000]).copy()
    mfcc.reset()
    np.testing.assert_array_equal(mfcc.push(SOUNDS["voice"][:5000]), first)
    forgotten = mfcc.push(SOUNDS["voice"][:5000])
    assert forgotten.shape != first.shape or not np.array_equal(forgotten, first)


def test_reset_forgets_the_sample_that_pre_emphasis_carries():
    mfcc = Mfcc(MfccSpec())
    mfcc.push(np.ones(400, np.float32))
    mfcc.reset()
    np.testing.assert_array_equal(mfcc.push(SOUNDS["quiet sine"][:400]), Mfcc(MfccSpec()).push(SOUNDS["quiet sine"][:400]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.array([0.0, np.nan], np.float32), "NaN or infinity"),
        (np.array([np.inf], np.float32), "NaN or infinity"),
        (np.array([np.inf, -np.inf], np.float32), "NaN or infinity"),
        (np.zeros(100, np.float64), "got float64"),
        (np.zeros(100, np.uint8), "got uint8"),
        (np.zeros(100, np.complex64), "got complex64"),
        (np.zeros((100, 2), np.float32), r"got shape \(100, 2\)"),
        (np.float32(1.0), r"got shape \(\)"),
    ],
)
def test_what_is_not_sound_is_refused_and_leaves_no_trace(wrong: np.ndarray, message: str):
    signal = SOUNDS["voice"]
    mfcc = Mfcc(MfccSpec())
    before = mfcc.push(signal[:3000]).copy()
    with pytest.raises(ValueError, match=message):
        mfcc.push(np.asarray(wrong))
    cepstra = np.concatenate([before, mfcc.push(signal[3000:])])
    np.testing.assert_array_equal(cepstra, Mfcc(MfccSpec()).push(signal))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_nothing_in_nothing_out(dtype: type):
    mfcc = Mfcc(MfccSpec())
    assert mfcc.push(np.zeros(0, dtype)).shape == (0, 40)
    assert mfcc.push(np.zeros(399, dtype)).shape == (0, 40)
    assert mfcc.log_mel.shape == (0, 40)
    assert mfcc.push(np.zeros(1, dtype)).shape == (1, 40)


def test_a_flush_of_nothing_gives_nothing():
    assert Mfcc(MfccSpec()).flush().shape == (0, 40)


def test_silence_is_finite():
    assert np.isfinite(Mfcc(MfccSpec()).push(SOUNDS["silence"])).all()


def test_every_filter_hears_something():
    assert (mel_filters(MfccSpec()).sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fft_size": 500}, "power of two"),
        ({"window_samples": 600}, "window_samples"),
        ({"hop_samples": 0}, "hop_samples"),
        ({"hop_samples": 401}, "hop_samples"),
        ({"cepstra": 41}, "cepstra"),
        ({"high_hz": 8001.0}, "half of rate_hz"),
        ({"low_hz": 9000.0}, "low_hz"),
        ({"pre_emphasis": 1.0}, "pre_emphasis"),
        ({"window": "hann"}, "window"),
        ({"lifter": -1}, "lifter"),
        ({"rate_hz": 0}, "rate_hz"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(wrong: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        MfccSpec(**wrong)
