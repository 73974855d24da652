"""The cached pool of augmented recordings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from moodring.evaluation.data.corpus import Clip
from moodring.features.audio.baseline import BaselineInfo
from moodring.features.spec import MfccSpec, SpeechSpec
from moodring.train.data import pool
from moodring.train.data.augment_mel import MelAugmenter
from moodring.train.data.augment_sound import SoundAugmenter
from moodring.train.data.pool import WindowSampler, open_pool
from moodring.train.data.speaker_means import DrawnMean, VoiceMeans, sum_voiced_frames
from moodring.train.data.voices import Utterance, run_front_end, window_ends
from moodring.train.recipe import SpeechRecipe, read_recipe

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "train" / "speech.yaml"
SPEC = SpeechSpec()


@pytest.fixture(autouse=True)
def few_nonspeech_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "NONSPEECH_SOUNDS", 6)
    monkeypatch.setattr(pool, "VALIDATION_SOUNDS", 2)


@pytest.fixture
def recipe() -> SpeechRecipe:
    return dataclasses.replace(read_recipe(RECIPE, "speech"), versions=3)


@pytest.fixture(scope="module")
def voices() -> list[Utterance]:
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(count)).astype(np.float32) for count in (24_000, 56_000)]
    clips = [Clip(Path(f"Actor_{actor:02d}/a.wav"), f"{actor}", "happy", 3) for actor in (1, 2)]
    return [Utterance(c, s, e, "ravdess") for c, s, e in zip(clips, sounds, window_ends(sounds, SPEC), strict=True)]


def test_pool_is_written_once_and_holds_the_original_recordings(
    tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    opened = open_pool(recipe, SPEC, voices, [], tmp_path)
    assert len(opened.speed) == 2 * 3
    assert len(opened.nonspeech.speed) == 6
    for row, voice in enumerate(voices):
        original = run_front_end([voice.samples], SPEC)[0][0]
        np.testing.assert_allclose(opened.speech_sound(row * 3), original, atol=0.02)  # float16
        assert opened.speed[row * 3] == 1.0
        assert len(opened.speech_sound(row * 3 + 1)) == pytest.approx(len(original) / opened.speed[row * 3 + 1], abs=4)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = open_pool(recipe, SPEC, voices, [], tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    np.testing.assert_array_equal(again.speech[0].log_mel, opened.speech[0].log_mel)


def test_pool_depends_on_sound_augmentation_and_recordings_only(
    tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    open_pool(recipe, SPEC, voices, [], tmp_path)
    open_pool(dataclasses.replace(recipe, seed=9, fold=3, dropout=0.5), SPEC, voices, [], tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    open_pool(dataclasses.replace(recipe, room=0.9), SPEC, voices, [], tmp_path)
    open_pool(recipe, SPEC, voices[:1], [], tmp_path)
    assert len(list(tmp_path.iterdir())) == 10  # the sounds without speech do not depend on the recordings


def test_pool_without_an_index_is_written_again(tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]) -> None:
    complete = np.array(open_pool(recipe, SPEC, voices, [], tmp_path).speech[0].log_mel)
    (frames,) = tmp_path.glob("pool-ravdess-*.f16")
    frames.write_bytes(frames.read_bytes()[:100])
    frames.with_suffix(".npz").unlink()
    np.testing.assert_array_equal(open_pool(recipe, SPEC, voices, [], tmp_path).speech[0].log_mel, complete)


def test_sampler_follows_the_seed_and_separates_validation_sounds(
    tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    sampler = WindowSampler(open_pool(recipe, SPEC, voices, [], tmp_path), recipe, SPEC, voices)
    first, again = (sampler.draw_speech([0, 1, 1], np.random.default_rng(4)) for _ in range(2))
    assert first.shape == (3, SPEC.window_frames, SPEC.columns)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    drawn: list[int] = []
    sampler._nonspeech_mel = lambda index, _rng: drawn.append(index) or np.zeros((100, 40), np.float32)
    sampler.draw_nonspeech(40, np.random.default_rng(0))
    assert set(drawn) == {0, 1, 2, 3}
    drawn.clear()
    sampler.draw_nonspeech(40, np.random.default_rng(0), validation=True)
    assert set(drawn) == {4, 5}


@pytest.mark.parametrize("output", ["cepstra", "log_mel"])
def test_a_baseline_is_heard_through_the_same_changes_as_its_window(
    recipe: SpeechRecipe, output: Literal["cepstra", "log_mel"]
) -> None:
    """A voice whose frames are equal is its own baseline: what is left is the mean of all speakers, in any channel."""
    spec = SpeechSpec(mfcc=MfccSpec(output=output))
    rng = np.random.default_rng(1)
    mel = np.tile(rng.normal(0, 3, spec.mfcc.filters + 2).astype(np.float32), (400, 1))
    total, frames = sum_voiced_frames(mel, np.full(400, 10.0), spec)
    mean = (total / frames).astype(np.float32)
    everyone = BaselineInfo(rng.normal(0, 1, spec.columns).astype(np.float32), np.full(spec.columns, 1e3, np.float32))
    augmenter = MelAugmenter(dataclasses.replace(recipe, masks=0), spec, everyone)
    for window in augmenter.windows([mel[:300]] * 3, rng, [DrawnMean(mean, 1.0)] * 3):
        np.testing.assert_allclose(window, np.tile(everyone.mean, (300, 1)), atol=0.02)
    (half,) = augmenter.windows([mel[:300]], np.random.default_rng(4), [DrawnMean(mean, 0.5)])
    (plain,) = augmenter.windows([mel[:300]], np.random.default_rng(4))
    np.testing.assert_allclose(half, (plain + everyone.mean) / 2, atol=0.02)


def test_a_speaker_has_the_same_conditions_in_all_recordings_of_a_version(
    recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    same = [dataclasses.replace(voices[0], clip=dataclasses.replace(voices[0].clip, path=Path(name))) for name in ("a", "b")]
    augmenter = SoundAugmenter(dataclasses.replace(recipe, room=1.0, noise=1.0), SPEC, [])
    sounds = list(pool._speech_sounds(recipe, [*same, voices[1]], augmenter))
    for version in range(recipe.versions):
        first, second, other = (sounds[row * recipe.versions + version] for row in range(3))
        np.testing.assert_array_equal(first[0], second[0])
        assert version == 0 or first[1] != other[1]


def test_means_are_those_of_the_speaker_and_the_version() -> None:
    clips = [Clip(Path(f"Actor_0{actor}/{row}"), f"{actor}", "happy", 3) for row, actor in enumerate((1, 1, 2))]
    voices = [Utterance(clip, np.zeros(1, np.float32), np.array([1]), "ravdess") for clip in clips]
    sums = np.array([[1.0], [10.0], [3.0], [30.0], [500.0], [900.0]])
    means = VoiceMeans(sums, np.ones(6, np.int64), voices, 2)
    drawn = {float(means.draw(0, 0, np.random.default_rng(seed)).mean[0]) for seed in range(300)}
    assert drawn == {1.0, 3.0, 2.0}
    assert {float(means.draw(1, 1, np.random.default_rng(seed)).mean[0]) for seed in range(300)} == {10.0, 30.0, 20.0}
    info = means.info(np.array([0, 1]))
    assert info.mean[0] == 2.0
    assert means.info(np.array([0, 1, 2])).mean[0] == 251.0
