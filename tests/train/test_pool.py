"""The pool of changed recordings: made once, found again, and never mixed up with another's."""

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
def few_other_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_it_is_made_once_and_holds_the_recordings_themselves(
    tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    made = open_pool(recipe, SPEC, voices, [], tmp_path)
    assert len(made.speed) == 2 * 3 + 6
    for row, voice in enumerate(voices):
        itself = run_front_end([voice.samples], SPEC)[0][0]
        np.testing.assert_allclose(made.sound(row * 3), itself, atol=0.02)  # float16
        assert made.speed[row * 3] == 1.0
        assert len(made.sound(row * 3 + 1)) == pytest.approx(len(itself) / made.speed[row * 3 + 1], abs=4)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = open_pool(recipe, SPEC, voices, [], tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    np.testing.assert_array_equal(again.log_mel, made.log_mel)


def test_other_changes_make_another_pool_and_other_training_does_not(
    tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    open_pool(recipe, SPEC, voices, [], tmp_path)
    open_pool(dataclasses.replace(recipe, seed=9, fold=3, dropout=0.5), SPEC, voices, [], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    open_pool(dataclasses.replace(recipe, room=0.9), SPEC, voices, [], tmp_path)
    open_pool(recipe, SPEC, voices[:1], [], tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


def test_frames_without_their_index_are_made_again(tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]) -> None:
    whole = np.array(open_pool(recipe, SPEC, voices, [], tmp_path).log_mel)
    (frames,) = tmp_path.glob("*.f16")
    frames.write_bytes(frames.read_bytes()[:100])
    next(tmp_path.glob("*.npz")).unlink()
    np.testing.assert_array_equal(open_pool(recipe, SPEC, voices, [], tmp_path).log_mel, whole)


def test_windows_are_drawn_by_the_seed_and_validation_sounds_stay_apart(
    tmp_path: Path, recipe: SpeechRecipe, voices: list[Utterance]
) -> None:
    sampler = WindowSampler(open_pool(recipe, SPEC, voices, [], tmp_path), recipe, SPEC, voices)
    first, again = (sampler.voices([0, 1, 1], np.random.default_rng(4)) for _ in range(2))
    assert first.shape == (3, SPEC.window_frames, SPEC.columns)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    drawn: list[int] = []
    sampler._nonspeech_mel = lambda index, _rng: drawn.append(index) or np.zeros((100, 40), np.float32)
    sampler.nonspeech(40, np.random.default_rng(0))
    assert set(drawn) == {0, 1, 2, 3}
    drawn.clear()
    sampler.nonspeech(40, np.random.default_rng(0), validation=True)
    assert set(drawn) == {4, 5}
