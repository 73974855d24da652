"""The cached pool of augmented recordings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from moodring.evaluation.data.readers import RavdessClip
from moodring.features.spec import SpeechSpec
from moodring.train.data import pool
from moodring.train.data.pool import WindowSampler, open_pool
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
    clips = [RavdessClip(Path(f"{actor}"), "sound", 3, actor) for actor in (1, 2)]
    return [Utterance(c, s, e) for c, s, e in zip(clips, sounds, window_ends(sounds, SPEC), strict=True)]


def test_pool_is_written_once_and_holds_the_original_recordings(
    tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    opened = open_pool(recipe, SPEC, voices, [], tmp_path)
    assert len(opened.speed) == 2 * 3 + 6
    for row, voice in enumerate(voices):
        original = run_front_end([voice.samples], SPEC)[0][0]
        np.testing.assert_allclose(opened.sound(row * 3), original, atol=0.02)  # float16
        assert opened.speed[row * 3] == 1.0
        assert len(opened.sound(row * 3 + 1)) == pytest.approx(len(original) / opened.speed[row * 3 + 1], abs=4)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = open_pool(recipe, SPEC, voices, [], tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    np.testing.assert_array_equal(again.log_mel, opened.log_mel)


def test_pool_depends_on_sound_augmentation_and_recordings_only(
    tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    open_pool(recipe, SPEC, voices, [], tmp_path)
    open_pool(dataclasses.replace(recipe, seed=9, fold=3, dropout=0.5), SPEC, voices, [], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    open_pool(dataclasses.replace(recipe, room=0.9), SPEC, voices, [], tmp_path)
    open_pool(recipe, SPEC, voices[:1], [], tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


def test_pool_without_an_index_is_written_again(tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]) -> None:
    complete = np.array(open_pool(recipe, SPEC, voices, [], tmp_path).log_mel)
    (frames,) = tmp_path.glob("*.f16")
    frames.write_bytes(frames.read_bytes()[:100])
    next(tmp_path.glob("*.npz")).unlink()
    np.testing.assert_array_equal(open_pool(recipe, SPEC, voices, [], tmp_path).log_mel, complete)


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
