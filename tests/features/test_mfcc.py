"""MFCC: equal to the reference, independent of chunking; invalid samples and specs are rejected; no allocation."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_speech_features import logfbank as reference_logfbank
from python_speech_features import mfcc as reference_mfcc

from moodring.evaluation.data.readers import read_sound
from moodring.features.audio.filterbank import band_edges_hz, hz_to_mel, mel_filters, mel_to_hz
from moodring.features.audio.mfcc import CHUNK_FRAMES, Mfcc
from moodring.features.audio.window import make_noise_reduction
from moodring.features.spec import MfccSpec, SpeechSpec
from moodring.types import SAMPLE_RATE_HZ
from tests.support.signals import noise, voice

TOLERANCE = 1e-3
TOLERANCES = {np.float32: TOLERANCE, np.float64: 1e-9}
KERNELS = ("cv2", "numpy")
WINDOWS = {"hamming": np.hamming, "hann": np.hanning, "rectangular": np.ones}
SPEECH_SPEC = MfccSpec(filters=26, cepstra=13, low_hz=0.0)  # python_speech_features' defaults, except the window


def all_kernels_and_dtypes(test):
    """Run a test with both kernels in both precisions."""
    test = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=lambda dtype: dtype.__name__)(test)
    return pytest.mark.parametrize("kernel", KERNELS)(test)


def reference(samples: np.ndarray, spec: MfccSpec) -> np.ndarray:
    """Return the cepstra of python_speech_features without its last, padded frame."""
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
    return (level * np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)).astype(np.float32)


SOUNDS = {
    "noise": noise(1.0),
    "loud sine": sine(1.0),
    "quiet sine": sine(1e-4),
    "silence": np.zeros(SAMPLE_RATE_HZ, np.float32),
    "clipping": (5 * sine(1.0)).clip(-1, 1),
    "DC offset": noise(1.0, 0.01) + np.float32(0.5),
    "DC only": np.full(SAMPLE_RATE_HZ, 0.25, np.float32),
    "voice": voice(1.0),
    "single click": np.eye(1, SAMPLE_RATE_HZ, 5000, dtype=np.float32)[0],
}


@all_kernels_and_dtypes
@pytest.mark.parametrize("spec", [MfccSpec(), SPEECH_SPEC], ids=["default", "26-13"])
@pytest.mark.parametrize("sound", SOUNDS)
def test_cepstra_match_the_reference(sound: str, spec: MfccSpec, kernel: str, dtype: type):
    cepstra = Mfcc(spec, dtype=dtype, kernel=kernel).push(SOUNDS[sound])
    expected = reference(SOUNDS[sound], spec)
    assert cepstra.shape == expected.shape == (98, spec.cepstra)
    assert cepstra.dtype == dtype
    np.testing.assert_allclose(cepstra, expected, rtol=0, atol=TOLERANCES[dtype])


@pytest.mark.parametrize(
    "spec",
    [
        MfccSpec(filters=26, cepstra=13, low_hz=0.0),
        MfccSpec(window="rectangular"),
        MfccSpec(window="hann"),
        MfccSpec(window="rectangular", energy_as_c0=True),
        MfccSpec(lifter=0),
        MfccSpec(energy_as_c0=True),
        MfccSpec(pre_emphasis=0.0),
        MfccSpec(rate_hz=8000, window_samples=200, hop_samples=80, fft_size=256, filters=26, cepstra=20, high_hz=4000),
        MfccSpec(hop_samples=400),
        MfccSpec(window_samples=512, hop_samples=100, fft_size=1024),
    ],
    ids=lambda spec: f"{spec.rate_hz}-{spec.filters}-{spec.window}-{spec.lifter}-{spec.hop_samples}",
)
def test_every_setting_matches_the_reference(spec: MfccSpec):
    expected = reference(SOUNDS["noise"], spec)
    for dtype, tolerance in TOLERANCES.items():
        np.testing.assert_allclose(Mfcc(spec, dtype=dtype).push(SOUNDS["noise"]), expected, rtol=0, atol=tolerance)


def test_log_mel_output_matches_the_reference():
    spec = MfccSpec(output="log_mel", low_hz=0.0)
    scaled = SOUNDS["noise"].astype(np.float64) * 32768  # the mel energies of the reference use no window function
    expected = reference_logfbank(scaled, SAMPLE_RATE_HZ, nfilt=40, nfft=512)[:98]
    mfcc = Mfcc(MfccSpec(output="log_mel", low_hz=0.0, window="rectangular"), dtype=np.float64)
    np.testing.assert_allclose(mfcc.push(SOUNDS["noise"]), expected, rtol=0, atol=1e-9)
    windowed = Mfcc(spec)
    np.testing.assert_array_equal(windowed.push(SOUNDS["noise"]), windowed.log_mel)
    assert windowed.log_mel.shape == (98, 40)


def test_slaney_scale_is_linear_up_to_1_khz_and_logarithmic_above():
    assert [hz_to_mel(hz, "slaney") for hz in (0, 200, 1000, 6400)] == pytest.approx([0, 3, 15, 42])
    for scale in ("slaney", "htk"):
        mel = np.array([hz_to_mel(hz, scale) for hz in (20.0, 999.0, 1001.0, 8000.0)])
        np.testing.assert_allclose(mel_to_hz(mel, scale), [20.0, 999.0, 1001.0, 8000.0])
    edges = band_edges_hz(MfccSpec(mel_scale="slaney"))
    assert (edges[0], edges[-1]) == pytest.approx((20.0, 8000.0))
    steps = np.diff(edges)
    assert steps[:8] == pytest.approx(steps[0])
    assert (np.diff(steps) > -1e-9).all()
    assert np.isfinite(Mfcc(MfccSpec(mel_scale="slaney")).push(SOUNDS["voice"])).all()


def test_int16_and_float32_give_the_same_cepstra():
    pcm = np.round(SOUNDS["voice"] * 32767).astype(np.int16)
    from_int = Mfcc(MfccSpec()).push(pcm).copy()
    from_float = Mfcc(MfccSpec()).push((pcm / 32768).astype(np.float32))
    np.testing.assert_array_equal(from_int, from_float)
    np.testing.assert_allclose(from_int, reference(pcm, MfccSpec()), rtol=0, atol=TOLERANCE)


@pytest.mark.data
@pytest.mark.parametrize("spec", [MfccSpec(), SPEECH_SPEC], ids=["default", "26-13"])
def test_real_speech_matches_the_reference(data_path, spec: MfccSpec):
    paths = sorted(data_path("ravdess/Actor_01").iterdir())
    assert len(paths) >= 4
    variants = [(Mfcc(spec, dtype=p, kernel=k), tolerance) for p, tolerance in TOLERANCES.items() for k in KERNELS]
    for path in paths:
        samples = read_sound(path)
        assert samples.size > SAMPLE_RATE_HZ
        expected = reference(samples, spec)
        for mfcc, tolerance in variants:
            mfcc.reset()
            np.testing.assert_allclose(mfcc.push(samples), expected, rtol=0, atol=tolerance, err_msg=path.name)


@pytest.mark.parametrize("size", [1, 100, 240, 241, 399, 400, 401, 560, 561, 15_900, 16_000, 16_001, 16_080])
@pytest.mark.parametrize("window", ["hamming", "rectangular"])
def test_only_complete_windows_give_frames(size: int, window: str):
    spec, samples = MfccSpec(window=window), SOUNDS["noise"][:1].repeat(size) + noise(size / SAMPLE_RATE_HZ)
    np.testing.assert_allclose(Mfcc(spec).push(samples), reference(samples, spec), rtol=0, atol=TOLERANCE)


signals = st.builds(
    lambda size, seed, kind: (
        noise(size / SAMPLE_RATE_HZ, 0.2, seed)
        if kind == "float32"
        else (noise(size / SAMPLE_RATE_HZ, 0.2, seed) * 32767).astype(np.int16)
    ),
    st.integers(0, 20_000),
    st.integers(0, 100),
    st.sampled_from(["float32", "int16"]),
)
segment_sizes = st.lists(st.one_of(st.integers(0, 30), st.integers(100, 900), st.integers(3000, 9000)), max_size=40)


def push_segments(mfcc: Mfcc, signal: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Push a signal in segments of these sizes; return features, log mel energies and likelihoods."""
    results, position = [], 0
    for size in (*sizes, signal.size):
        features = mfcc.push(signal[position : position + size]).copy()
        results.append((features, mfcc.log_mel.copy(), mfcc.likelihood.copy()))
        position = min(position + size, signal.size)
    return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]


@all_kernels_and_dtypes
@pytest.mark.parametrize("noise_reduction", [None, "none", "wiener"])
@settings(max_examples=12)
@given(signal=signals, sizes=segment_sizes)
def test_chunking_does_not_change_the_bits(kernel, dtype, noise_reduction, signal: np.ndarray, sizes: list[int]):
    def make() -> Mfcc:
        tracker = noise_reduction and make_noise_reduction(SpeechSpec(noise_reduction=noise_reduction))
        return Mfcc(MfccSpec(), noise=tracker, dtype=dtype, kernel=kernel)

    for stream, clip in zip(push_segments(make(), signal, sizes), push_segments(make(), signal, []), strict=True):
        np.testing.assert_array_equal(stream, clip)


@pytest.mark.parametrize(
    "spec",
    [
        MfccSpec(energy_as_c0=True),
        MfccSpec(output="log_mel", mel_scale="slaney", window="hann"),
        MfccSpec(filters=26, cepstra=13),
        MfccSpec(hop_samples=400),
        MfccSpec(filters=7, cepstra=3, hop_samples=33),
    ],
    ids=str,
)
@settings(max_examples=12)
@given(signal=signals, sizes=segment_sizes)
def test_chunking_does_not_change_the_bits_for_any_spec(spec: MfccSpec, signal: np.ndarray, sizes: list[int]):
    for stream, clip in zip(push_segments(Mfcc(spec), signal, sizes), push_segments(Mfcc(spec), signal, []), strict=True):
        np.testing.assert_array_equal(stream, clip)


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("noise_reduction", [None, "wiener"])
def test_both_kernels_agree(sound: str, noise_reduction: str | None):
    for dtype, tolerance in TOLERANCES.items():
        one, other = (
            Mfcc(MfccSpec(), noise=noise_reduction and make_noise_reduction(SpeechSpec()), dtype=dtype, kernel=kernel)
            .push(SOUNDS[sound])
            .copy()
            for kernel in KERNELS
        )
        # Each kernel is within the tolerance of the reference. In silence, the gain makes rounding errors ten times larger.
        np.testing.assert_allclose(one, other, rtol=0, atol=(10 if noise_reduction else 2) * tolerance)


def test_blocks_of_any_number_of_frames_give_the_same_bits():
    signal = noise(4.0)
    whole = Mfcc(MfccSpec()).push(signal).copy()
    for frames in range(1, CHUNK_FRAMES + 3):
        size = 160 * frames
        outputs = push_segments(Mfcc(MfccSpec()), signal, [size] * (signal.size // size))
        np.testing.assert_array_equal(outputs[0][: len(whole)], whole, err_msg=f"{frames} frames")


def test_single_samples_give_the_same_bits():
    signal = SOUNDS["voice"][:2000]
    stream = Mfcc(MfccSpec())
    outputs = [stream.push(signal[i : i + 1]).copy() for i in range(signal.size)]
    np.testing.assert_array_equal(np.concatenate(outputs), Mfcc(MfccSpec()).push(signal))


@pytest.mark.parametrize("noise_reduction", [None, "wiener"])
def test_reset_starts_a_new_signal(noise_reduction: str | None):
    mfcc = Mfcc(MfccSpec(), noise=noise_reduction and make_noise_reduction(SpeechSpec()))
    first = mfcc.push(SOUNDS["voice"][:5000]).copy()
    mfcc.reset()
    np.testing.assert_array_equal(mfcc.push(SOUNDS["voice"][:5000]), first)
    without_reset = mfcc.push(SOUNDS["voice"][:5000])
    assert without_reset.shape != first.shape or not np.array_equal(without_reset, first)


def test_reset_clears_the_noise_floor():
    mfcc = Mfcc(MfccSpec(), noise=make_noise_reduction(SpeechSpec()))
    first = mfcc.push(SOUNDS["voice"]).copy()
    mfcc.reset()
    mfcc.push(noise(2.0, 0.3))  # leaves 320 samples: two hops
    without_reset = mfcc.push(SOUNDS["voice"])[2:].copy()
    assert np.abs(without_reset[10:] - first[10:]).max() > 10.0
    mfcc.reset()
    np.testing.assert_array_equal(mfcc.push(SOUNDS["voice"]), first)


def test_reset_clears_the_state_of_pre_emphasis():
    mfcc = Mfcc(MfccSpec())
    mfcc.push(np.ones(400, np.float32))
    mfcc.reset()
    np.testing.assert_array_equal(mfcc.push(SOUNDS["quiet sine"][:400]), Mfcc(MfccSpec()).push(SOUNDS["quiet sine"][:400]))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([0.0, np.nan], np.float32), "NaN or infinity"),
        (np.array([np.inf], np.float32), "NaN or infinity"),
        (np.array([np.inf, -np.inf], np.float32), "NaN or infinity"),
        (np.full(1000, 1e17, np.float32), r"far outside \[-1, 1\]"),
        (np.full(10, 3e38, np.float32), r"far outside \[-1, 1\]"),
        (np.zeros(100, np.float64), "got float64"),
        (np.zeros(100, np.uint8), "got uint8"),
        (np.zeros(100, np.complex64), "got complex64"),
        (np.zeros((100, 2), np.float32), r"got shape \(100, 2\)"),
        (np.float32(1.0), r"got shape \(\)"),
    ],
)
def test_invalid_samples_are_rejected_and_do_not_change_the_state(samples: np.ndarray, message: str):
    signal = SOUNDS["voice"]
    for noise_reduction in ("none", "wiener"):
        mfcc, whole = (
            Mfcc(MfccSpec(), noise=make_noise_reduction(SpeechSpec(noise_reduction=noise_reduction))) for _ in range(2)
        )
        before = mfcc.push(signal[:3000]).copy()
        with pytest.raises(ValueError, match=message):
            mfcc.push(np.asarray(samples))
        cepstra = np.concatenate([before, mfcc.push(signal[3000:])])
        np.testing.assert_array_equal(cepstra, whole.push(signal))


def test_loudest_accepted_sound_gives_finite_features():
    mfcc = Mfcc(MfccSpec(), noise=make_noise_reduction(SpeechSpec()))
    loud = np.zeros(2000, np.float32)
    loud[700] = 9e5
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(mfcc.push(loud)).all()
        assert np.isfinite(mfcc.push(SOUNDS["voice"])).all()


@pytest.mark.parametrize("transfer", [lambda a: pickle.loads(pickle.dumps(a)), copy.deepcopy])  # noqa: S301  own data
def test_copied_and_unpickled_samples_are_accepted(transfer):
    for samples in (SOUNDS["voice"], (SOUNDS["voice"] * 32767).astype(np.int16)):
        np.testing.assert_array_equal(Mfcc(MfccSpec()).push(transfer(samples)), Mfcc(MfccSpec()).push(samples))


def test_strided_samples_are_accepted():
    stereo = np.stack([SOUNDS["voice"], SOUNDS["noise"]], axis=1)
    np.testing.assert_array_equal(Mfcc(MfccSpec()).push(stereo[:, 0]), Mfcc(MfccSpec()).push(SOUNDS["voice"]))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_frames_appear_only_after_a_full_window(dtype: type):
    mfcc = Mfcc(MfccSpec())
    assert mfcc.push(np.zeros(0, dtype)).shape == (0, 40)
    assert mfcc.push(np.zeros(399, dtype)).shape == (0, 40)
    assert mfcc.log_mel.shape == (0, 40)
    assert mfcc.push(np.zeros(1, dtype)).shape == (1, 40)


def test_silence_gives_finite_features():
    assert np.isfinite(Mfcc(MfccSpec()).push(SOUNDS["silence"])).all()


def test_no_filter_is_empty():
    assert (mel_filters(MfccSpec()).sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fft_size": 500}, "power of two"),
        ({"window_samples": 600}, "window_samples"),
        ({"hop_samples": 0}, "hop_samples"),
        ({"hop_samples": 401}, "hop_samples"),
        ({"cepstra": 41}, "cepstra"),
        ({"high_hz": 8001.0}, "half of rate_hz"),
        ({"low_hz": 9000.0}, "low_hz"),
        ({"pre_emphasis": 1.0}, "pre_emphasis"),
        ({"window": "kaiser"}, "hamming, hann or rectangular"),
        ({"window": "hann", "window_samples": 2, "hop_samples": 1}, "at least 3"),
        ({"mel_scale": "bark"}, "htk or slaney"),
        ({"output": "spectrum"}, "cepstra or log_mel"),
        ({"output": "log_mel", "energy_as_c0": True}, "requires output cepstra"),
        ({"sample_scale": 0.0}, "sample_scale"),
        ({"sample_scale": 1e9}, "sample_scale"),
        ({"low_hz": -1.0}, "low_hz"),
        ({"window_samples": 0}, "window_samples"),
        ({"cepstra": 0}, "cepstra"),
        ({"lifter": -1}, "lifter"),
        ({"rate_hz": 0}, "rate_hz"),
    ],
)
def test_invalid_spec_is_rejected(values: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        MfccSpec(**values)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("noise_reduction", [None, "wiener"])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_live_stream_keeps_no_memory_and_allocates_at_most_2_kib(kernel: str, noise_reduction: str | None, dtype: type):
    mfcc = Mfcc(MfccSpec(), noise=noise_reduction and make_noise_reduction(SpeechSpec()), kernel=kernel)
    block = noise(0.05) if dtype is np.float32 else (noise(0.05) * 32767).astype(np.int16)
    for _ in range(200):  # covers every phase at which a plan or a view can be created
        mfcc.push(block)
    pushes, peak, current, before = 2000, 0, 0, 0
    tracemalloc.start()
    try:
        mfcc.push(block)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(pushes):
            tracemalloc.reset_peak()
            current, _ = tracemalloc.get_traced_memory()
            mfcc.push(block)
            peak = max(peak, tracemalloc.get_traced_memory()[1] - current)
        growth = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert growth < 1024
    assert peak <= 2048
