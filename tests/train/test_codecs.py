"""Codecs and lost packets as augmentation of sound."""

from __future__ import annotations

import numpy as np
import pytest

from moodring.train.data.codecs import CODECS, PACKET_S, Codec, lose_packets, pass_through_codec, random_bits_per_s
from moodring.types import SAMPLE_RATE_HZ
from tests.support.signals import voice


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.encoder} at {codec.rate_hz} Hz")
def test_sound_keeps_its_length_and_level_and_loses_what_the_codec_cannot_carry(codec: Codec) -> None:
    rng = np.random.default_rng(0)
    samples = (0.5 * voice(2.0) + 0.02 * rng.standard_normal(32_000)).astype(np.float32)
    coded = pass_through_codec(samples, SAMPLE_RATE_HZ, codec, random_bits_per_s(codec, rng))
    assert coded.shape == samples.shape
    assert coded.dtype == np.float32
    assert coded.std() == pytest.approx(samples.std(), rel=0.25)
    assert not np.array_equal(coded, samples)
    hz = np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE_HZ)
    high = hz > 4_500
    before, after = (float((np.abs(np.fft.rfft(sound)) ** 2)[high].sum()) for sound in (samples, coded))
    assert codec.rate_hz > 8_000 or after < 0.1 * before


def test_lost_packets_are_silent_or_repeat_the_packet_before() -> None:
    samples = voice(2.0)
    size = int(PACKET_S * SAMPLE_RATE_HZ)
    kinds = set()
    for seed in range(20):
        lost = lose_packets(samples, SAMPLE_RATE_HZ, 0.2, np.random.default_rng(seed))
        changed = [k for k in range(samples.size // size) if (lost != samples)[k * size : (k + 1) * size].any()]
        assert 0 < len(changed) < 0.5 * samples.size / size
        kinds.add(all(not lost[k * size : (k + 1) * size].any() for k in changed))
    assert kinds == {True, False}
    np.testing.assert_array_equal(lose_packets(samples, SAMPLE_RATE_HZ, 0.0, np.random.default_rng(0)), samples)
