"""The baseline of a voice: equal for any chunking, limited, forgotten with the stream, and subtracted from each window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.features.audio.baseline import MEMORY_FRAMES, PRIOR_FRAMES, BaselineInfo, VoiceBaseline
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.spec import SpeechSpec
from moodring.types import AudioBlock, FeatureWindow
from tests.support.signals import noise, split_into_blocks, voice

SPEC = SpeechSpec()
COLUMNS = SPEC.columns
INFO = BaselineInfo(np.zeros(COLUMNS, np.float32), np.full(COLUMNS, 2.0, np.float32))


def frames(count: int, value: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(count)
    return (value + rng.normal(0, 1, (count, COLUMNS))).astype(np.float32)


def read(front_end: SpeechFrontEnd, samples: np.ndarray, sizes: tuple[int, ...] | list[int] = ()) -> list[FeatureWindow]:
    return [window for block in split_into_blocks(samples, sizes) for window in front_end.push(block)]


def test_it_moves_to_the_mean_of_the_voice():
    baseline = VoiceBaseline(INFO)
    assert baseline.settled == 0.0
    assert not baseline.offset.any()
    baseline.update(np.ones((PRIOR_FRAMES, COLUMNS), np.float32))
    assert baseline.settled == pytest.approx(0.5)
    np.testing.assert_allclose(baseline.offset, 0.5)
    for _ in range(200):
        baseline.update(np.ones((PRIOR_FRAMES, COLUMNS), np.float32))
    np.testing.assert_allclose(baseline.offset, MEMORY_FRAMES / (MEMORY_FRAMES + PRIOR_FRAMES), rtol=0.01)


def test_it_forgets_an_earlier_voice():
    baseline = VoiceBaseline(INFO)
    for value in [1.5] * 100 + [-1.5] * 400:
        baseline.update(np.full((PRIOR_FRAMES, COLUMNS), value, np.float32))
    assert (baseline.offset < -1.2).all()


def test_a_difference_is_limited():
    baseline = VoiceBaseline(INFO)
    for _ in range(100):
        baseline.update(frames(500, 50.0))
    np.testing.assert_array_equal(baseline.offset, INFO.limit)


def test_no_frames_change_nothing():
    baseline = VoiceBaseline(INFO)
    baseline.update(frames(300))
    before = baseline.offset.copy()
    baseline.update(frames(0))
    np.testing.assert_array_equal(baseline.offset, before)


def test_reset_forgets_the_voice():
    baseline = VoiceBaseline(INFO)
    baseline.update(frames(300))
    baseline.reset()
    assert baseline.settled == 0.0
    assert not baseline.offset.any()


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.one_of(st.integers(0, 25), st.integers(300, 1200)), max_size=20))
def test_chunking_does_not_change_the_windows(sizes: list[int]):
    samples = np.concatenate([voice(2.5), noise(1.0, 1e-3), voice(2.0, level=0.1)])
    whole = read(SpeechFrontEnd(SPEC, baseline=INFO), samples)
    stream = read(SpeechFrontEnd(SPEC, baseline=INFO), samples, [16 * size for size in sizes])
    assert len(whole) == len(stream) > 3
    for a, b in zip(whole, stream, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
        assert a.settled == b.settled


def test_windows_are_those_without_a_baseline_minus_the_offset():
    plain = read(SpeechFrontEnd(SPEC), voice(4.0))
    with_baseline = read(SpeechFrontEnd(SPEC, baseline=INFO), voice(4.0))
    assert [window.settled for window in plain] == [None] * len(plain)
    settled = [window.settled for window in with_baseline]
    assert settled == sorted(settled)
    assert settled[-1] > 0.5
    for a, b in zip(plain, with_baseline, strict=True):
        difference = a.features - b.features
        np.testing.assert_allclose(difference - difference[0], 0.0, atol=1e-4)
        assert np.abs(difference).max() > 0.1


def test_the_voice_is_kept_over_a_gap_only_if_asked():
    def first_settled(*, keep_voice: bool) -> float | None:
        front_end = SpeechFrontEnd(SPEC, baseline=INFO)
        read(front_end, voice(3.0))
        front_end.reset(keep_voice=keep_voice)
        return next(iter(front_end.push(AudioBlock(voice(2.0), 0)))).settled

    fresh = next(iter(SpeechFrontEnd(SPEC, baseline=INFO).push(AudioBlock(voice(2.0), 0)))).settled
    assert first_settled(keep_voice=False) == fresh
    assert first_settled(keep_voice=True) > fresh


@pytest.mark.parametrize(
    "data",
    [
        {"mean": [0.0] * COLUMNS},
        {"mean": [0.0] * COLUMNS, "limit": [1.0] * (COLUMNS - 1)},
        {"mean": [0.0] * COLUMNS, "limit": [-1.0] * COLUMNS},
        {"mean": [float("nan")] * COLUMNS, "limit": [1.0] * COLUMNS},
        {"mean": ["a"] * COLUMNS, "limit": [1.0] * COLUMNS},
    ],
)
def test_a_damaged_entry_of_a_bundle_is_rejected(data: dict[str, list[float]]):
    with pytest.raises((ValueError, KeyError)):
        BaselineInfo.from_dict(data, COLUMNS)
