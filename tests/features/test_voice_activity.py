"""Voice activity: detects voice, not silence or steady noise; independent of chunking; reset."""

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
from moodring.types import SAMPLE_RATE_HZ
from tests.support.signals import noise, voice


def detector_input(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the input of the detector: log mel energies and log likelihood ratios."""
    mfcc = make_mfcc(SpeechSpec())
    mfcc.push(samples)
    return mfcc.log_mel.copy(), mfcc.likelihood.copy()


def voiced_frames(samples: np.ndarray) -> np.ndarray:
    return VoiceActivityDetector(MfccSpec()).update(*detector_input(samples))


MIXED = np.concatenate(
    [np.zeros(SAMPLE_RATE_HZ, np.float32), voice(2.0), noise(2.0, 0.001), voice(1.0), np.zeros(32_000, np.float32)]
)
MIXED_MEL, MIXED_LIKELIHOOD = detector_input(MIXED)


def test_voice_is_voiced_and_silence_is_not():
    voiced = voiced_frames(np.concatenate([np.zeros(SAMPLE_RATE_HZ, np.float32), voice(2.0), np.zeros(32_000, np.float32)]))
    assert not voiced[:95].any()
    assert voiced[110:290].mean() > 0.9
    assert not voiced[300 + HANGOVER_FRAMES + 10 :].any()


@pytest.mark.parametrize("start", [500, 1500, 2000, 3000])
def test_stream_that_starts_in_the_middle_of_a_word_is_voiced_after_the_first_pauses(start: int):
    # The first frame initialises the noise floor, and the floor falls in the pauses between the syllables.
    voiced = voiced_frames(voice(3.0)[start:])
    assert voiced[:60].any()
    assert voiced[100:].mean() > 0.3


@pytest.mark.parametrize("level", [0.001, 0.01, 0.1])
def test_steady_noise_is_not_voiced_after_four_seconds(level: float):
    assert voiced_frames(noise(8.0, level))[400:].mean() < 0.05


def test_voice_above_noise_is_voiced():
    sound = noise(8.0, 0.01)
    sound[96_000:112_000] += voice(1.0)
    voiced = voiced_frames(sound)
    assert voiced[605:690].mean() > 0.8
    assert voiced[450:590].mean() < 0.1


@pytest.mark.data
def test_real_speech_is_voiced(data_path):
    for path in sorted(data_path("ravdess/Actor_01").glob("*.flac"))[:10]:
        assert voiced_frames(read_sound(path)).sum() >= 40, path.name


@given(sizes=st.lists(st.integers(0, 120), max_size=30))
@settings(max_examples=50)
def test_chunking_does_not_change_the_result(sizes: list[int]):
    stream = VoiceActivityDetector(MfccSpec())
    pieces, position = [], 0
    for size in (*sizes, len(MIXED_MEL)):
        pieces.append(stream.update(MIXED_MEL[position : position + size], MIXED_LIKELIHOOD[position : position + size]))
        position += size
    whole = VoiceActivityDetector(MfccSpec())
    np.testing.assert_array_equal(np.concatenate(pieces), whole.update(MIXED_MEL, MIXED_LIKELIHOOD))
    assert stream.level_dbfs == whole.level_dbfs


def test_reset_clears_the_hangover():
    voiced_input, silent_input = detector_input(voice(1.0)[:14_000]), (np.full((50, 40), -36.0, np.float32), np.zeros(50))
    detector = VoiceActivityDetector(MfccSpec())
    assert detector.update(*voiced_input)[-1]
    assert detector.update(*silent_input).any()
    detector.update(*voiced_input)
    detector.reset()
    assert detector.level_dbfs == -np.inf
    assert not detector.update(*silent_input).any()


def test_sound_below_the_minimum_level_is_not_voiced():
    assert not voiced_frames(np.concatenate([np.zeros(SAMPLE_RATE_HZ, np.float32), voice(2.0, level=1e-5)])).any()


def test_level_is_relative_to_a_full_scale_sine():
    detector = VoiceActivityDetector(MfccSpec(pre_emphasis=0.0))
    mfcc = Mfcc(MfccSpec(pre_emphasis=0.0))
    t = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    mfcc.push(np.sin(2 * np.pi * 1000 * t).astype(np.float32))
    detector.update(mfcc.log_mel, mfcc.likelihood)
    assert detector.level_dbfs == pytest.approx(0.0, abs=3.0)


def test_zero_frames_give_no_output_and_no_change():
    detector = VoiceActivityDetector(MfccSpec())
    assert detector.update(np.zeros((0, 40), np.float32), np.zeros(0)).shape == (0,)
    assert detector.level_dbfs == -np.inf


def test_noise_after_digital_silence_is_not_voiced():
    """The silence of a codec's lead-in or of a mute button is not the noise floor: noise after it is not speech."""
    for gap in (800, 1_600, 32_000):
        room = np.concatenate([noise(2.0, 0.01), np.zeros(gap, np.float32), noise(2.0, 0.01)])
        assert voiced_frames(np.concatenate([np.zeros(gap, np.float32), noise(2.0, 0.01)])).sum() <= HANGOVER_FRAMES
        assert voiced_frames(room).sum() <= HANGOVER_FRAMES
