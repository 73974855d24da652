"""The mix to mono: the centre keeps its level, a dead or inverted channel weakens nothing, chunking changes nothing."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodring.capture.downmix import BLOCK_S, Downmix
from moodring.capture.sound import Resampler
from moodring.types import F32, SAMPLE_RATE_HZ
from tests.support.signals import noise, voice

STEREO = ("FL", "FR")
WARM_UP_S = 0.5  # the decisions are taken by then
LAYOUTS = [
    "mono", "stereo", "2.1", "3.0", "3.0(back)", "4.0", "quad", "3.1", "5.0", "4.1", "5.1", "5.1(side)", "6.0", "6.0(front)",
    "hexagonal", "6.1", "6.1(front)", "7.0", "7.0(front)", "7.1", "7.1(wide)", "7.1(wide-side)", "octagonal", "5.1.4", "7.1.4",
    "hexadecagonal", "22.2",
]  # fmt: skip


def names_of(layout: str) -> list[str]:
    return [channel.name for channel in av.AudioLayout(layout).channels]


def level_db(samples: F32) -> float:
    return 10 * np.log10(max(1e-20, float(np.mean(samples.astype(np.float64) ** 2))))


def mix(names: list[str] | tuple[str, ...], **channels: F32) -> F32:
    """Return the mix of the named channels; the others are silent."""
    size = max(samples.size for samples in channels.values())
    columns = [channels.get(name, np.zeros(size, np.float32)) for name in names]
    return Downmix(names, SAMPLE_RATE_HZ).push(np.stack(columns, axis=1))


def settled(samples: F32) -> F32:
    return samples[int(WARM_UP_S * SAMPLE_RATE_HZ) :]


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if "FC" in names_of(layout)])
def test_a_voice_in_the_centre_keeps_its_level(layout: str):
    sound = voice(2.0)
    music = {name: 0.1 * noise(2.0, seed=index) for index, name in enumerate(("FL", "FR", "BL", "SL"))}
    for others in ({}, music):
        np.testing.assert_allclose(
            level_db(settled(mix(names_of(layout), FC=sound, **others))), level_db(settled(sound)), atol=0.5
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_voice_in_any_single_channel_is_heard(layout: str):
    sound = voice(2.0)
    for name in names_of(layout):
        mixed = settled(mix(names_of(layout), **{name: sound}))
        assert level_db(mixed) == pytest.approx(level_db(settled(sound)), abs=0.5), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_loud_voice_in_every_channel_is_not_distorted(layout: str):
    sound = voice(3.0)
    sound *= 0.95 / np.abs(sound).max()
    names = names_of(layout)
    mixed = Downmix(names, SAMPLE_RATE_HZ).push(np.tile(sound[:, None], (1, len(names))))
    late = slice(SAMPLE_RATE_HZ, None)
    assert np.abs(mixed[late]).max() < 1.02
    assert np.corrcoef(mixed[late], sound[late])[0, 1] > 0.995


@pytest.mark.parametrize("count", [2, 3, 8, 64])
def test_channels_without_positions_become_their_mean(count: int):
    samples = np.stack([0.1 * voice(1.0) + noise(1.0, 0.01, seed) for seed in range(count)], axis=1)
    mixed = Downmix(["NONE"] * count, SAMPLE_RATE_HZ).push(samples)
    np.testing.assert_allclose(mixed, samples.mean(axis=1), atol=1e-6)


def test_an_ordinary_stereo_pair_is_exactly_its_mean():
    rng = np.random.default_rng(0)
    sound = voice(3.0)
    for share in (0.0, 0.3, 0.9):  # from equal to nearly independent channels
        left, right = ((1 - share) * sound + share * noise(3.0, 0.1, int(rng.integers(99))) for _ in range(2))
        samples = np.stack([left, right], axis=1)
        np.testing.assert_array_equal(Downmix(STEREO, SAMPLE_RATE_HZ).push(samples), samples.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("gain", [-1.0, -0.9, -0.5])
def test_an_inverted_channel_does_not_silence_the_other(gain: float):
    sound = voice(3.0)
    mixed = mix(STEREO, FL=sound, FR=(gain * sound + noise(3.0, 1e-4)).astype(np.float32))
    assert level_db(settled(mixed)) == pytest.approx(level_db(settled(sound)), abs=0.5)


def test_an_inverted_channel_that_becomes_normal_is_mixed_again():
    sound = voice(6.0)
    right = sound.copy()
    right[: 3 * SAMPLE_RATE_HZ] *= -1
    mixed = mix(STEREO, FL=0.5 * sound, FR=0.5 * right)
    np.testing.assert_array_equal(mixed[-SAMPLE_RATE_HZ:], 0.5 * sound[-SAMPLE_RATE_HZ:])


@pytest.mark.parametrize("names", [STEREO, ("NONE",) * 8, ("NONE",) * 64], ids=len)
@pytest.mark.parametrize("residue", [0.0, 1e-4])
def test_a_dead_channel_does_not_weaken_the_others(names: tuple[str, ...], residue: float):
    sound = voice(3.0)
    samples = np.stack([sound, *(noise(3.0, residue, seed) for seed in range(len(names) - 1))], axis=1)
    mixed = settled(Downmix(names, SAMPLE_RATE_HZ).push(samples))
    assert level_db(mixed) == pytest.approx(level_db(settled(sound)), abs=0.5)


def test_a_channel_that_comes_back_is_not_lost():
    first, second = voice(3.0), 0.8 * voice(3.0)
    silence = np.zeros(3 * SAMPLE_RATE_HZ, np.float32)
    mixed = mix(STEREO, FL=np.concatenate([first, silence]), FR=np.concatenate([silence, second]))
    assert level_db(mixed[-3 * SAMPLE_RATE_HZ :]) > level_db(second) - 6.5


def test_silence_changes_no_decision():
    sound = voice(2.0)
    silence = np.zeros(4 * SAMPLE_RATE_HZ, np.float32)
    samples = np.concatenate([sound, silence, sound])
    mixed = mix(STEREO, FL=samples, FR=-samples)
    np.testing.assert_allclose(mixed[-2 * SAMPLE_RATE_HZ :], sound, atol=1e-6)


def test_nan_and_infinity_in_a_channel_do_not_stay():
    samples = np.stack([voice(3.0), voice(3.0)], axis=1)
    samples[8000:8010, 0] = np.nan
    samples[9000:9010, 1] = np.inf
    mixed = Downmix(STEREO, SAMPLE_RATE_HZ).push(samples)
    assert np.isfinite(mixed[9010:]).all()
    np.testing.assert_array_equal(mixed[-8000:], samples[-8000:].mean(axis=1))


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3000), max_size=30), names=st.sampled_from([STEREO, ("FL", "FR", "FC", "LFE", "BL", "BR")])
)
def test_any_chunking_gives_the_same_mix(sizes: list[int], names: tuple[str, ...]):
    left = np.concatenate([voice(1.0), voice(1.0), 0.01 * voice(0.5)])
    columns = [left, np.concatenate([-left[: left.size // 2], left[left.size // 2 :]])]
    columns += [noise(2.5, 0.3, seed) for seed in range(len(names) - 2)]
    samples = np.stack(columns, axis=1).astype(np.float32)
    whole = Downmix(names, SAMPLE_RATE_HZ).push(samples)
    downmix, parts, position = Downmix(names, SAMPLE_RATE_HZ), [], 0
    for size in (*sizes, len(samples)):
        parts.append(downmix.push(samples[position : position + size]))
        position += size
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_reset_starts_a_new_signal():
    inverted = np.stack([voice(2.0), -voice(2.0)], axis=1)
    downmix = Downmix(STEREO, SAMPLE_RATE_HZ)
    first = downmix.push(inverted)
    assert not np.array_equal(downmix.push(inverted), first)
    downmix.reset()
    np.testing.assert_array_equal(downmix.push(inverted), first)


def test_a_decision_delays_no_sample():
    downmix = Downmix(STEREO, SAMPLE_RATE_HZ)
    for size in (1, 10, round(SAMPLE_RATE_HZ * BLOCK_S), 5000):
        assert downmix.push(np.zeros((size, 2), np.float32)).size == size


# Through the resampler


@pytest.mark.parametrize("count", [*range(1, 18), 24, 32, 48, 63, 64])
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_a_sound_card_with_any_number_of_channels(count: int, rate_hz: int):
    sound = voice(1.0, rate_hz)
    interleaved = np.repeat((sound * 32_767).astype(np.int16), count)
    resampler = Resampler(SAMPLE_RATE_HZ)
    mono = np.concatenate(
        [resampler.push_int16(block, rate_hz, count) for block in np.array_split(interleaved.reshape(-1, count), 10)]
    )
    assert mono.size == pytest.approx(SAMPLE_RATE_HZ, abs=40)
    assert level_db(mono) == pytest.approx(level_db(sound), abs=0.5)


def test_a_change_of_the_layout_within_a_stream():
    resampler = Resampler(SAMPLE_RATE_HZ)
    pieces = [
        resampler.push_int16(np.full(1600 * channels, 8192, np.int16), SAMPLE_RATE_HZ, channels) for channels in (1, 2, 8, 2, 1)
    ]
    np.testing.assert_allclose(np.concatenate([*pieces, resampler.flush()]), 0.25, atol=1e-4)
