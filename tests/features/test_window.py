"""Windows of cepstra: independent of chunking, at the right times, only during speech."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_speech_features import delta as reference_delta

from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.evaluation.data.readers import read_sound
from moodring.features.audio.window import SpeechFrontEnd, deltas, make_mfcc, make_window_input
from moodring.features.spec import MfccSpec, SpeechSpec
from moodring.types import AudioBlock, FeatureWindow
from tests.support.signals import noise, split_into_blocks, voice

SPEC = SpeechSpec()
HOP_MS, WINDOW_MS = 500, 25


def compute_windows(samples: np.ndarray, sizes=(), start_ns: int = 0, spec: SpeechSpec = SPEC) -> list[FeatureWindow]:
    front_end = SpeechFrontEnd(spec)
    return [window for block in split_into_blocks(samples, sizes, start_ns) for window in front_end.push(block)]


def are_equal(a: list[FeatureWindow], b: list[FeatureWindow]) -> bool:
    return len(a) == len(b) and all(
        x.capture_time_ns == y.capture_time_ns and np.array_equal(x.features, y.features) for x, y in zip(a, b, strict=True)
    )


@settings(max_examples=40)
@given(
    seconds=st.floats(0.0, 5.0),
    sizes=st.lists(st.one_of(st.integers(0, 400), st.integers(5_000, 20_000)), max_size=30),
    offset=st.integers(0, 10**12),
)
def test_chunking_does_not_change_the_bits(seconds: float, sizes: list[int], offset: int):
    sound = voice(seconds)
    # Block times in whole nanoseconds are exact only at multiples of 16 samples; others are rounded by less than a sample.
    sizes = [size // 16 * 16 for size in sizes]
    whole, stream = compute_windows(sound, (), offset), compute_windows(sound, sizes, offset)
    assert len(whole) == len(stream)
    for a, b in zip(whole, stream, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
        assert a.capture_time_ns == b.capture_time_ns


VARIANTS = [
    SpeechSpec(noise_reduction="none"),
    SpeechSpec(deltas=1),
    SpeechSpec(deltas=2, mfcc=MfccSpec(cepstra=13)),
    SpeechSpec(mfcc=MfccSpec(output="log_mel", mel_scale="slaney", window="hann"), deltas=1),
    SpeechSpec(mfcc=MfccSpec(energy_as_c0=True)),
]


@pytest.mark.parametrize("spec", VARIANTS, ids=["no reduction", "deltas", "two deltas", "log mel", "energy"])
@settings(max_examples=8)
@given(sizes=st.lists(st.one_of(st.integers(0, 25), st.integers(300, 1200)), max_size=20))
def test_chunking_does_not_change_the_windows_of_any_spec(spec: SpeechSpec, sizes: list[int]):
    sizes = [16 * size for size in sizes]
    whole = compute_windows(voice(2.1), spec=spec)
    assert are_equal(compute_windows(voice(2.1), sizes, spec=spec), whole)
    assert {window.features.shape for window in whole} == {(300, spec.columns)}
    assert all(np.isfinite(window.features).all() and window.features.dtype == np.float32 for window in whole)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_deltas_match_the_reference(width: int, count: int):
    features = np.random.default_rng(count).normal(0, 20, (count, 13)).astype(np.float32)
    slopes = deltas(features, width)
    assert slopes.dtype == np.float32
    np.testing.assert_allclose(slopes, reference_delta(features.astype(np.float64), width), rtol=0, atol=1e-4)


def test_deltas_follow_the_features():
    features = np.random.default_rng(0).normal(0, 20, (120, 42)).astype(np.float32)
    plain = make_window_input(features, SPEC)
    whole = make_window_input(features, SpeechSpec(deltas=2))
    assert whole.shape == (300, 122)
    np.testing.assert_array_equal(whole[:, :40], plain[:, :40])
    np.testing.assert_array_equal(whole[-120:, 40:80], deltas(plain[-120:, :40]))
    np.testing.assert_array_equal(whole[-120:, 80:120], deltas(deltas(plain[-120:, :40])))
    np.testing.assert_array_equal(whole[-120:, 120:], features[:, 40:])  # pitch and voicing are unchanged


def test_mfcc_reduces_noise_if_the_spec_says_so():
    sound = noise(4.0, 0.03)
    without, reduced = (make_mfcc(SpeechSpec(noise_reduction=method)) for method in ("none", "wiener"))
    without.push(sound)
    reduced.push(sound)
    assert (without.log_mel[200:] - reduced.log_mel[200:]).mean() > np.log(10.0)


@pytest.mark.parametrize("samples", [np.full(100, np.nan, np.float32), np.full(100, np.inf, np.float32), np.zeros(100)])
def test_invalid_samples_are_rejected_and_do_not_change_the_state(samples: np.ndarray):
    front_end = SpeechFrontEnd(SPEC)
    list(front_end.push(AudioBlock(voice(1.2), 0)))
    with pytest.raises(ValueError, match="samples"):
        list(front_end.push(AudioBlock(samples, 0)))
    after = list(front_end.push(AudioBlock(noise(1.0), 0)))
    whole = SpeechFrontEnd(SPEC)
    list(whole.push(AudioBlock(voice(1.2), 0)))
    assert are_equal(after, list(whole.push(AudioBlock(noise(1.0), 0))))


@pytest.mark.data
def test_real_speech_gives_the_same_windows_as_stream_and_clip(data_path):
    path = next(iter(sorted(data_path("ravdess/Actor_01").iterdir())))
    samples = read_sound(path)
    whole = compute_windows(samples)
    assert whole
    for size in (160, 320, 1024, 4000):
        assert are_equal(compute_windows(samples, [size] * (samples.size // size)), whole), f"blocks of {size}"


def test_hop_is_300_ms_until_two_seconds_are_voiced_and_then_500_ms():
    windows = compute_windows(voice(5.0))
    assert windows[0].capture_time_ns == 1015 * NS_PER_MS  # 99 hops of 10 ms and a window of 25 ms: the end of 100 frames
    is_short = [window.voiced * SPEC.window_frames < 199.5 for window in windows[:-1]]
    assert is_short == sorted(is_short, reverse=True)
    assert 3 <= sum(is_short) < len(is_short) - 2
    gaps_ms = np.diff([window.capture_time_ns // NS_PER_MS for window in windows])
    assert gaps_ms.tolist() == [300 if short else HOP_MS for short in is_short]


@pytest.mark.parametrize("start_s", [1.0, 1.13, 1.26, 1.39])
def test_first_window_is_emitted_after_three_quarters_of_a_second_of_voice(start_s: float):
    room = noise(start_s, 0.0003)
    (first, *_) = compute_windows(np.concatenate([room, voice(2.0)]))
    assert start_s + 0.7 <= first.capture_time_ns / 1e9 <= start_s + 0.9
    assert first.voiced == pytest.approx(0.25, abs=0.04)


def test_capture_time_of_a_window_is_that_of_its_newest_sample():
    start_ns = 7_000_000_000
    (first, *_) = compute_windows(voice(1.5), [160] * 150, start_ns)
    assert first.capture_time_ns == start_ns + 1015 * NS_PER_MS


def test_less_than_a_second_gives_no_window():
    assert compute_windows(voice(1.01)) == []


def test_silence_gives_no_window():
    assert compute_windows(np.zeros(80_000, np.float32)) == []


def test_steady_noise_gives_no_window_after_five_seconds():
    late = [w for w in compute_windows(noise(12.0, 0.01)) if w.capture_time_ns > 5e9]
    assert late == []


def test_reset_starts_a_new_signal():
    front_end = SpeechFrontEnd(SPEC)
    sound = voice(2.3)
    first = list(front_end.push(AudioBlock(sound, 0)))
    front_end.reset()
    assert are_equal(list(front_end.push(AudioBlock(sound, 0))), first)
    assert not are_equal(list(front_end.push(AudioBlock(sound, 0))), first)


@pytest.mark.parametrize("before", [voice(3.3), noise(6.0, 0.2), noise(6.0, 0.0001)], ids=["voice", "loud", "quiet"])
@pytest.mark.parametrize("after", [voice(2.1, level=0.01), noise(2.1, 0.002), noise(2.1, 0.05)], ids=["voice", "quiet", "loud"])
def test_reset_clears_all_state(before: np.ndarray, after: np.ndarray):
    front_end = SpeechFrontEnd(SPEC)
    list(front_end.push(AudioBlock(before, 0)))
    front_end.reset()
    assert not front_end.is_speech_active
    assert front_end.last_window(0) is None
    assert are_equal(list(front_end.push(AudioBlock(after, 0))), compute_windows(after))


def test_emitted_windows_do_not_change():
    front_end = SpeechFrontEnd(SPEC)
    (first, *_) = list(front_end.push(AudioBlock(voice(1.2), 0)))
    kept = first.features.copy()
    list(front_end.push(AudioBlock(noise(3.0), 0)))
    np.testing.assert_array_equal(first.features, kept)


def test_window_does_not_depend_on_loudness():
    loud, quiet = compute_windows(voice(2.0, level=0.4)), compute_windows(voice(2.0, level=0.04))
    assert len(loud) == len(quiet) > 0
    for a, b in zip(loud, quiet, strict=True):
        # Only the quietest frames differ: the ends of the syllables.
        assert np.median(np.abs(a.features - b.features)) < 0.05


def test_last_window_exists_without_speech():
    front_end = SpeechFrontEnd(SPEC)
    assert front_end.last_window(0) is None
    assert list(front_end.push(AudioBlock(np.zeros(20_000, np.float32), 0))) == []
    assert front_end.last_window(0).features.shape == (300, 42)


@given(count=st.integers(1, 300))
@settings(max_examples=30)
def test_short_window_is_repeated_with_the_newest_frame_last(count: int):
    cepstra = np.random.default_rng(count).normal(size=(count, 40)).astype(np.float32)
    window = make_window_input(cepstra, SPEC)
    assert window.shape == (300, 40)
    np.testing.assert_array_equal(window[-count:, 1:], cepstra[:, 1:])
    for row in range(0, 300 - count, 37):
        np.testing.assert_array_equal(window[row], window[row + count])
    # The level is the mean of the louder half.
    louder = np.sort(window[-count:, 0])[count // 2 :]
    assert abs(louder.mean()) < 1e-4


@pytest.mark.parametrize("count", [0, 301])
def test_invalid_number_of_frames_is_rejected(count: int):
    with pytest.raises(ValueError, match=r"a window must have 1\.\.300 frames"):
        make_window_input(np.zeros((count, 40), np.float32), SPEC)


def test_pushing_the_samples_to_the_next_batch_emits_windows_without_delay():
    sound, rate_hz = voice(4.0, SPEC.mfcc.rate_hz), SPEC.mfcc.rate_hz
    front_end = SpeechFrontEnd(SPEC)
    pushed, found = 0, []
    while pushed + front_end.samples_to_next_batch <= sound.size:
        block = sound[pushed : pushed + front_end.samples_to_next_batch]
        windows = list(front_end.push(AudioBlock(block, pushed * NS_PER_S // rate_hz)))
        pushed += block.size
        assert all(window.capture_time_ns == pushed * NS_PER_S // rate_hz for window in windows)
        found += windows
    assert are_equal(found, compute_windows(sound))
    assert len(found) >= 4
