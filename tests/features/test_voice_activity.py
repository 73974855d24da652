"""Voice activity: hears voice, not silence, not steady noise; any chunking; reset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.evaluation.data.readers import read_sound
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.voice_activity import HANGOVER_FRAMES, VoiceActivityDetector
from moodring.features.audio.window import make_mfcc
from moodring.features.spec import MfccSpec, SpeechSpec
from tests.support.signals import noise, voice


def heard_in(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What voice activity is told: log mel energies and likelihoods."""
    mfcc = make_mfcc(SpeechSpec())
    mfcc.push(samples)
    return mfcc.log_mel.copy(), mfcc.likelihood.copy()


def voiced_of(samples: np.ndarray) -> np.ndarray:
    return VoiceActivityDetector(MfccSpec()).update(*heard_in(samples))


MIXED = np.concatenate([np.zeros(16_000, np.float32), voice(2.0), noise(2.0, 0.001), voice(1.0), np.zeros(32_000, np.float32)])
MIXED_MEL, MIXED_LIKELIHOOD = heard_in(MIXED)


def test_voice_is_voiced_and_silence_is_not():
    voiced = voiced_of(np.concatenate([np.zeros(16_000, np.float32), voice(2.0), np.zeros(32_000, np.float32)]))
    assert not voiced[:95].any()
    assert voiced[110:290].mean() > 0.9
    assert not voiced[300 + HANGOVER_FRAMES + 10 :].any()


@pytest.mark.parametrize("start", [500, 1500, 2000, 3000])
def test_a_stream_that_begins_in_the_middle_of_a_word_is_voiced_as_soon_as_the_floor_is_seen(start: int):
    # The first frame is taken for noise, and the floor falls with the pauses between the syllables.
    voiced = voiced_of(voice(3.0)[start:])
    assert voiced[:60].any()
    assert voiced[100:].mean() > 0.3


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
def test_real_speech_is_voiced(data_path):
    for path in sorted(data_path("ravdess/Actor_01").glob("*.flac"))[:10]:
        assert voiced_of(read_sound(path)).sum() >= 40, path.name


@given(sizes=st.lists(st.integers(0, 120), max_size=30))
@settings(max_examples=50)
def test_any_chunking_gives_the_same(sizes: list[int]):
    stream = VoiceActivityDetector(MfccSpec())
    pieces, position = [], 0
    for size in (*sizes, len(MIXED_MEL)):
        pieces.append(stream.update(MIXED_MEL[position : position + size], MIXED_LIKELIHOOD[position : position + size]))
        position += size
    whole = VoiceActivityDetector(MfccSpec())
    np.testing.assert_array_equal(np.concatenate(pieces), whole.update(MIXED_MEL, MIXED_LIKELIHOOD))
    assert stream.level_dbfs == whole.level_dbfs


def test_reset_forgets_that_somebody_just_spoke_and_forgetting_it_shows():
    spoken, silence = heard_in(voice(1.0)[:14_000]), (np.full((50, 40), -36.0, np.float32), np.zeros(50))
    activity = VoiceActivityDetector(MfccSpec())
    assert activity.update(*spoken)[-1]
    assert activity.update(*silence).any()
    activity.update(*spoken)
    activity.reset()
    assert activity.level_dbfs == -np.inf
    assert not activity.update(*silence).any()


def test_what_is_too_quiet_is_never_speech():
    assert not voiced_of(np.concatenate([np.zeros(16_000, np.float32), voice(2.0, level=1e-5)])).any()


def test_the_level_is_relative_to_a_full_scale_sine():
    activity = VoiceActivityDetector(MfccSpec(pre_emphasis=0.0))
    mfcc = Mfcc(MfccSpec(pre_emphasis=0.0))
    t = np.arange(16_000) / 16_000
    mfcc.push(np.sin(2 * np.pi * 1000 * t).astype(np.float32))
    activity.update(mfcc.log_mel, mfcc.likelihood)
    assert activity.level_dbfs == pytest.approx(0.0, abs=3.0)


def test_no_frames_no_answers_and_no_change():
    activity = VoiceActivityDetector(MfccSpec())
    assert activity.update(np.zeros((0, 40), np.float32), np.zeros(0)).shape == (0,)
    assert activity.level_dbfs == -np.inf


def test_noise_after_digital_silence_is_no_speech():
    """A codec's lead-in or a mute button says nothing of the room: what follows is noise, not speech over nothing."""
    for gap in (800, 1_600, 32_000):
        room = np.concatenate([noise(2.0, 0.01), np.zeros(gap, np.float32), noise(2.0, 0.01)])
        assert voiced_of(np.concatenate([np.zeros(gap, np.float32), noise(2.0, 0.01)])).sum() <= HANGOVER_FRAMES
        assert voiced_of(room).sum() <= HANGOVER_FRAMES
