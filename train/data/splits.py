"""Who is trained on, who chooses, who is never seen: decided by actor and by picture bytes, never by chance alone.

RAVDESS: fold k tests actors 4k+1 .. 4k+4 (two men, two women; every shared actor once over folds 0..4); one man and one
woman of the rest choose, stop and calibrate. FER2013: the published parts; training pictures whose bytes also stand in a
test part are dropped; a tenth of what is left, by duplicate group, chooses and calibrates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError, UsageError

FOLDS = 5
ACTORS_PER_FOLD = 4
VALIDATION_DIVISOR = 10  # one group in so many validates


@dataclass(frozen=True, slots=True)
class ActorSplit:
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def fold_actors(fold: int) -> tuple[int, ...]:
    """Return the four test actors of a fold, two of each sex (odd numbers are men)."""
    if not 0 <= fold < FOLDS:
        raise UsageError(f"fold must lie in 0..{FOLDS - 1}, got {fold}")
    return tuple(range(ACTORS_PER_FOLD * fold + 1, ACTORS_PER_FOLD * fold + ACTORS_PER_FOLD + 1))


def split_actors(actors: Sequence[int], fold: int | None) -> ActorSplit:
    """Split the actors at hand. The last man and woman outside the test fold validate; without a fold nobody is held out."""
    present = sorted(set(actors))
    test = tuple(actor for actor in present if fold is not None and actor in fold_actors(fold))
    rest = [actor for actor in present if actor not in test]
    men = [actor for actor in rest if actor % 2 == 1]
    women = [actor for actor in rest if actor % 2 == 0]
    validation = tuple(sorted(men[-1:] + women[-1:]))
    train = tuple(actor for actor in rest if actor not in validation)
    if not train or len(validation) < 2:
        raise DataError(f"actors {present} are too few: a man and a woman must validate and others train")
    return ActorSplit(train, validation, test)


def image_hashes(faces: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return the SHA-256 of each picture's bytes, [N] of 64 hexadecimal digits: equal hash, equal picture."""
    return np.array([hashlib.sha256(face.tobytes()).hexdigest() for face in faces], dtype="<U64")


@dataclass(frozen=True, slots=True)
class ImageSplit:
    """Row numbers of FER2013, int64. One row stands for each distinct training picture."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    dropped: NDArray[np.int64]  # training rows that also stand in a test part


def split_images(hashes: NDArray[np.str_], usage: NDArray[np.str_]) -> ImageSplit:
    """Split FER2013 rows; validation is chosen by the picture's own hash, so that no order or seed moves it."""
    training = usage == "Training"
    leaked = training & np.isin(hashes, hashes[~training])
    usable = np.flatnonzero(training & ~leaked)
    _, first = np.unique(hashes[usable], return_index=True)
    rows = np.sort(usable[first])
    is_validation = np.array([int(digest[:8], 16) % VALIDATION_DIVISOR == 0 for digest in hashes[rows]], dtype=bool)
    return ImageSplit(rows[~is_validation], rows[is_validation], np.flatnonzero(~training), np.flatnonzero(leaked))
