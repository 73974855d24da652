"""Windows of cepstra: the same for any chunking, at the right times, only while somebody speaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import NS_PER_MS
from edge.evaluation.readers import read_sound
from edge.features.spec import SpeechSpec
from edge.features.speech_window import SpeechFrontEnd, fit_window
from edge.types import AudioBlock, FeatureWindow
from tests.support.signals import in_blocks, noise, voice

SPEC = SpeechSpec()
HOP_MS, WINDOW_MS = 500, 25


def windows_of(samples: np.ndarray, sizes=(), start_ns: int = 0) -> list[FeatureWindow]:
    front_end = SpeechFrontEnd(SPEC)
    return [window for block in in_blocks(samples, sizes, start_ns) for window in front_end.push(block)]


def same(a: list[FeatureWindow], b: list[FeatureWindow]) -> bool:
    return len(a) == len(b) and all(
        x.capture_time_ns == y.capture_time_ns and np.array_equal(x.features, y.features) for x, y in zip(a, b, strict=True)
    )


@settings(max_examples=40)
@given(
    seconds=st.floats(0.0, 5.0),
    sizes=st.lists(st.one_of(st.integers(0, 400), st.integers(5_000, 20_000)), max_size=30),
    offset=st.integers(0, 10**12),
)
def test_any_chunking_gives_the_same_windows_bit_for_bit(seconds: float, sizes: list[int], offset: int):
    sound = voice(seconds)
    # Block times are whole nanoseconds of whole samples only at multiples of 16 samples: others round by less than one sample.
    sizes = [size // 16 * 16 for size in sizes]
    whole, stream = windows_of(sound, (), offset), windows_of(sound, sizes, offset)
    assert len(whole) == len(stream)
    for a, b in zip(whole, stream, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
        assert a.capture_time_ns == b.capture_time_ns


@pytest.mark.data
def test_real_speech_gives_the_same_windows_as_stream_and_clip(data_part):
    path = next(iter(sorted(data_part("ravdess/Actor_01").iterdir())))
    samples = read_sound(path)
    whole = windows_of(samples)
    assert whole
    for size in (160, 320, 1024, 4000):
        assert same(windows_of(samples, [size] * (samples.size // size)), whole), f"blocks of {size}"


def test_windows_come_every_half_second_from_one_second_on():
    times_ms = [window.capture_time_ns / NS_PER_MS for window in windows_of(voice(4.0))]
    # Frame n is complete 15 ms after its hop: 100 frames end at 1.015 s.
    assert times_ms == [1015 + HOP_MS * i for i in range(6)]


def test_a_window_is_stamped_with_its_newest_sample_wherever_the_blocks_are_cut():
    start_ns = 7_000_000_000
    (first, *_) = windows_of(voice(1.5), [160] * 150, start_ns)
    assert first.capture_time_ns == start_ns + 1015 * NS_PER_MS


def test_less_than_a_second_gives_no_window():
    assert windows_of(voice(1.01)) == []


def test_silence_gives_no_window():
    assert windows_of(np.zeros(80_000, np.float32)) == []


def test_steady_noise_gives_no_window_once_its_level_is_known():
    late = [w for w in windows_of(noise(12.0, 0.01)) if w.capture_time_ns > 5e9]
    assert late == []


def test_forgetting_reset_changes_the_windows():
    front_end = SpeechFrontEnd(SPEC)
    sound = voice(2.3)
    first = list(front_end.push(AudioBlock(sound, 0)))
    front_end.reset()
    assert same(list(front_end.push(AudioBlock(sound, 0))), first)
    assert not same(list(front_end.push(AudioBlock(sound, 0))), first)


@pytest.mark.parametrize("before", [voice(3.3), noise(6.0, 0.2), noise(6.0, 0.0001)], ids=["voice", "loud", "quiet"])
@pytest.mark.parametrize("after", [voice(2.1, level=0.01), noise(2.1, 0.002), noise(2.1, 0.05)], ids=["voice", "quiet", "loud"])
def test_reset_forgets_everything(before: np.ndarray, after: np.ndarray):
    front_end = SpeechFrontEnd(SPEC)
    list(front_end.push(AudioBlock(before, 0)))
    front_end.reset()
    assert not front_end.speaking
    assert front_end.last_window() is None
    assert same(list(front_end.push(AudioBlock(after, 0))), windows_of(after))


def test_windows_do_not_change_after_they_were_given():
    front_end = SpeechFrontEnd(SPEC)
    (first, *_) = list(front_end.push(AudioBlock(voice(1.2), 0)))
    kept = first.features.copy()
    list(front_end.push(AudioBlock(noise(3.0), 0)))
    np.testing.assert_array_equal(first.features, kept)


def test_loudness_does_not_change_a_window():
    loud, quiet = windows_of(voice(2.0, level=0.4)), windows_of(voice(2.0, level=0.04))
    assert len(loud) == len(quiet) > 0
    for a, b in zip(loud, quiet, strict=True):
        # Only frames at the floor differ: the syllables' feet.
        assert np.median(np.abs(a.features - b.features)) < 0.05


def test_the_last_window_is_there_even_where_nobody_speaks():
    front_end = SpeechFrontEnd(SPEC)
    assert front_end.last_window() is None
    assert list(front_end.push(AudioBlock(np.zeros(20_000, np.float32), 0))) == []
    assert front_end.last_window().shape == (300, 40)


@given(count=st.integers(1, 300))
@settings(max_examples=30)
def test_a_short_window_repeats_itself_with_the_newest_frame_last(count: int):
    cepstra = np.random.default_rng(count).normal(size=(count, 40)).astype(np.float32)
    window = fit_window(cepstra, SPEC)
    assert window.shape == (300, 40)
    np.testing.assert_array_equal(window[-count:, 1:], cepstra[:, 1:])
    for row in range(0, 300 - count, 37):
        np.testing.assert_array_equal(window[row], window[row + count])
    # The level is that of the louder half.
    louder = np.sort(window[-count:, 0])[count // 2 :]
    assert abs(louder.mean()) < 1e-4


@pytest.mark.parametrize("count", [0, 301])
def test_a_window_of_the_wrong_length_is_refused(count: int):
    with pytest.raises(ValueError, match=r"a window holds 1\.\.300 frames"):
        fit_window(np.zeros((count, 40), np.float32), SPEC)
