"""Voice activity: hears voice, not silence, not steady noise; any chunking; reset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.evaluation.readers import read_sound
from edge.features.mfcc import Mfcc
from edge.features.spec import MfccSpec
from edge.features.voice_activity import HANGOVER_FRAMES, VoiceActivity
from tests.support.signals import noise, voice


def log_mel_of(samples: np.ndarray) -> np.ndarray:
    mfcc = Mfcc(MfccSpec())
    mfcc.push(samples)
    return mfcc.log_mel.copy()


def voiced_of(samples: np.ndarray) -> np.ndarray:
    return VoiceActivity(MfccSpec()).update(log_mel_of(samples))


MIXED = np.concatenate([np.zeros(16_000, np.float32), voice(2.0), noise(2.0, 0.001), voice(1.0), np.zeros(32_000, np.float32)])
MIXED_MEL = log_mel_of(MIXED)


def test_voice_is_voiced_and_silence_is_not():
    voiced = voiced_of(np.concatenate([np.zeros(16_000, np.float32), voice(2.0), np.zeros(32_000, np.float32)]))
    assert not voiced[:95].any()
    assert voiced[110:290].mean() > 0.9
    assert not voiced[300 + HANGOVER_FRAMES + 10 :].any()


def test_a_stream_that_begins_in_the_middle_of_a_word_is_voiced():
    assert voiced_of(voice(1.0)[1500:])[:20].all()


@pytest.mark.parametrize("level", [0.001, 0.01, 0.1])
def test_steady_noise_is_learnt_within_the_memory_of_the_floor(level: float):
    assert voiced_of(noise(8.0, level))[400:].mean() < 0.05


def test_voice_above_noise_is_voiced():
    sound = noise(8.0, 0.01)
    sound[96_000:112_000] += voice(1.0)
    voiced = voiced_of(sound)
    assert voiced[605:690].mean() > 0.8
    assert voiced[450:590].mean() < 0.1


@pytest.mark.data
def test_real_speech_is_voiced(data_part):
    for path in sorted(data_part("ravdess/Actor_01").glob("*.flac"))[:10]:
        assert voiced_of(read_sound(path)).sum() >= 40, path.name


@given(sizes=st.lists(st.integers(0, 120), max_size=30))
@settings(max_examples=50)
def test_any_chunking_gives_the_same(sizes: list[int]):
    stream = VoiceActivity(MfccSpec())
    pieces, position = [], 0
    for size in (*sizes, len(MIXED_MEL)):
        pieces.append(stream.update(MIXED_MEL[position : position + size]))
        position += size
    whole = VoiceActivity(MfccSpec())
    np.testing.assert_array_equal(np.concatenate(pieces), whole.update(MIXED_MEL))
    assert stream.level_dbfs == whole.level_dbfs


def test_reset_forgets_the_floor_and_forgetting_it_shows():
    quiet_after_loud = log_mel_of(noise(1.0, 0.01))
    activity = VoiceActivity(MfccSpec())
    first = activity.update(quiet_after_loud)
    assert first.any()
    activity.update(log_mel_of(noise(6.0, 0.1)))
    assert not np.array_equal(activity.update(quiet_after_loud), first)
    activity.reset()
    np.testing.assert_array_equal(activity.update(quiet_after_loud), first)


def test_reset_forgets_that_somebody_just_spoke():
    activity = VoiceActivity(MfccSpec())
    assert activity.update(log_mel_of(voice(1.0)[:14_000]))[-1]
    activity.reset()
    assert not activity.update(log_mel_of(np.zeros(8000, np.float32))).any()


def test_the_level_is_relative_to_a_full_scale_sine():
    activity = VoiceActivity(MfccSpec(pre_emphasis=0.0))
    mfcc = Mfcc(MfccSpec(pre_emphasis=0.0))
    t = np.arange(16_000) / 16_000
    mfcc.push(np.sin(2 * np.pi * 1000 * t).astype(np.float32))
    activity.update(mfcc.log_mel)
    assert activity.level_dbfs == pytest.approx(0.0, abs=3.0)


def test_no_frames_no_answers_and_no_change():
    activity = VoiceActivity(MfccSpec())
    assert activity.update(np.zeros((0, 40), np.float32)).shape == (0,)
    assert activity.level_dbfs == -np.inf
