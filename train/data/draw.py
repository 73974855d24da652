"""The recordings of an epoch, drawn by the balances of a recipe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moodring.labels import CLASSES
from moodring.train.data.voices import Utterance
from moodring.train.recipe import SpeechRecipe

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def draw_weights(voices: Sequence[Utterance], rows: I64, recipe: SpeechRecipe) -> F64:
    """Return the probability, float64 [rows], with which each recording in `rows` is drawn; see the recipe's balances."""
    corpora = np.array([voices[row].corpus for row in rows])
    labels = np.array([voices[row].label for row in rows])
    weights = np.array([voices[row].clip.weight for row in rows], np.float64)
    for corpus in set(corpora.tolist()):
        own = corpora == corpus
        counts = np.bincount(labels[own], minlength=CLASSES)
        weights[own] *= counts[labels[own]] ** -recipe.class_balance
        weights[own] *= own.sum() ** recipe.corpus_balance / weights[own].sum()
    return np.asarray(weights / weights.sum(), np.float64)


def draw_order(weights: F64, rows: I64, recipe: SpeechRecipe, rng: np.random.Generator) -> I64:
    """Return the recordings of an epoch, `recipe.views` times as many as `rows`; equal weights give each the same number."""
    if np.allclose(weights, weights[0]):
        return rng.permutation(np.tile(rows, recipe.views))
    return rng.choice(rows, recipe.views * len(rows), p=weights)
