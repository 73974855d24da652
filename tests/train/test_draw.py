"""Which recordings an epoch draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moodring.evaluation.data.corpus import Clip
from moodring.labels import INDEX
from moodring.train.data.draw import draw_order, draw_weights
from moodring.train.data.voices import Utterance
from moodring.train.recipe import SpeechRecipe, read_recipe

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "train" / "speech.yaml"
ROWS = np.arange(110)


@pytest.fixture
def recipe() -> SpeechRecipe:
    return replace(read_recipe(RECIPE, "speech"), views=50)


@pytest.fixture(scope="module")
def voices() -> list[Utterance]:
    """Return 80 neutral and 20 angry recordings of one corpus, and 10 sad ones of another."""
    named = [("large", "neutral")] * 80 + [("large", "angry")] * 20 + [("small", "sad")] * 10
    clips = [(corpus, Clip(Path(f"{row}.wav"), "a", label, INDEX[label])) for row, (corpus, label) in enumerate(named)]
    return [Utterance(clip, np.zeros(1, np.float32), np.array([1]), corpus) for corpus, clip in clips]


def shares(voices: list[Utterance], recipe: SpeechRecipe) -> dict[str, float]:
    weights = draw_weights(voices, ROWS, recipe)
    assert weights.sum() == pytest.approx(1.0)
    order = draw_order(weights, ROWS, recipe, np.random.default_rng(0))
    assert len(order) == recipe.views * len(ROWS)
    labels = [voices[row].clip.label for row in order]
    return {label: labels.count(label) / len(labels) for label in ("neutral", "angry", "sad")}


def test_without_balances_each_recording_is_drawn_equally_often(voices: list[Utterance], recipe: SpeechRecipe) -> None:
    order = draw_order(draw_weights(voices, ROWS, recipe), ROWS, recipe, np.random.default_rng(0))
    assert (np.bincount(order) == recipe.views).all()


def test_corpora_and_classes_are_balanced(voices: list[Utterance], recipe: SpeechRecipe) -> None:
    by_corpus = shares(voices, replace(recipe, corpus_balance=0.0))
    assert by_corpus["sad"] == pytest.approx(1 / 2, abs=0.02)
    assert by_corpus["neutral"] / by_corpus["angry"] == pytest.approx(4.0, rel=0.1)
    half = shares(voices, replace(recipe, corpus_balance=0.5))
    assert half["sad"] == pytest.approx(10**0.5 / (10**0.5 + 100**0.5), abs=0.02)
    by_class = shares(voices, replace(recipe, class_balance=1.0))
    assert by_class["neutral"] == pytest.approx(by_class["angry"], abs=0.03)
    assert by_class["sad"] == pytest.approx(1 / 11, abs=0.02)


def test_the_weight_of_a_recording_counts(voices: list[Utterance], recipe: SpeechRecipe) -> None:
    weighted = list(voices)
    weighted[0] = replace(voices[0], clip=replace(voices[0].clip, weight=0.0))
    assert draw_weights(weighted, ROWS, recipe)[0] == 0.0


def test_votes_soften_the_target() -> None:
    clip = Clip(Path("a.wav"), "a", "angry", 0, votes={"angry": 0.5, "neutral": 0.5})
    voice = Utterance(clip, np.zeros(1, np.float32), np.array([1]), "x")
    np.testing.assert_allclose(voice.target(0.5)[[INDEX["angry"], INDEX["neutral"]]], [0.75, 0.25])
    assert voice.target()[0] == 1.0
    assert replace(voice, clip=replace(clip, votes=None)).target(0.5)[0] == 1.0
