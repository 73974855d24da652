"""Training, validation and test splits, by speaker (speech) and by image hash (FER2013).

RAVDESS: fold k tests actors 4k+1..4k+4 (two men and two women), so that folds 0..4 test each of actors 1..20 once. The last man
and the last woman of the others validate: they select the epoch and calibrate.

Other corpora: one speaker in ten validates; the hash of the speaker selects them. A corpus of one or two speakers only trains.

FER2013: the published parts. Training images with the hash of a test image are dropped. One tenth of the rest validates; the
hash selects it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError, UsageError
from moodring.train.data.voices import Utterance
from moodring.types import U8

I64 = NDArray[np.int64]

FOLDS = 5
ACTORS_PER_FOLD = 4
VALIDATION_DIVISOR = 10  # share of the images, and of the speakers, in the validation set: 1 / 10
MIN_SPEAKERS = 3  # of a corpus from which a speaker validates
MIXED_SEED = 3  # of the split that mixes actors


@dataclass(frozen=True, slots=True)
class ActorSplit:
    """Actor numbers of each part, ascending."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def fold_actors(fold: int) -> tuple[int, ...]:
    """Return the four test actors of a fold: two men (odd numbers) and two women. Raise UsageError if there is no such fold."""
    if not 0 <= fold < FOLDS:
        raise UsageError(f"fold must lie in 0..{FOLDS - 1}, got {fold}")
    return tuple(range(ACTORS_PER_FOLD * fold + 1, ACTORS_PER_FOLD * fold + ACTORS_PER_FOLD + 1))


def split_actors(actors: Sequence[int], fold: int | None) -> ActorSplit:
    """Split the actors that occur in `actors`. Without a fold, the test part is empty.

    Raise DataError if there are too few actors for training and validation.
    """
    present = sorted(set(actors))
    test = tuple(actor for actor in present if fold is not None and actor in fold_actors(fold))
    rest = [actor for actor in present if actor not in test]
    men = [actor for actor in rest if actor % 2 == 1]
    women = [actor for actor in rest if actor % 2 == 0]
    validation = tuple(sorted(men[-1:] + women[-1:]))
    train = tuple(actor for actor in rest if actor not in validation)
    if not train or len(validation) < 2:
        raise DataError(
            f"actors {present} are too few: beside the test actors, a man and a woman validate and at least one other trains"
        )
    return ActorSplit(train, validation, test)


@dataclass(frozen=True, slots=True)
class RecordingSplit:
    """Row numbers of the recordings of each part, int64."""

    train: I64
    validation: I64
    test: I64


def split_recordings(
    voices: Sequence[Utterance], fold: int | None, *, mix_actors: bool = False, no_validation: bool = False
) -> RecordingSplit:
    """Split recordings by speaker: those of RAVDESS as `split_actors` does, the others as `validation_speakers` does.

    With `no_validation`, the validation speakers are in the training part as well. With `mix_actors`, the parts keep their
    sizes but are random, so that every speaker is in the training part. Raise DataError if there are too few speakers.
    """
    actors = [voice.actor for voice in voices if voice.actor is not None]
    split = split_actors(actors, fold) if actors else ActorSplit((), (), ())
    validation = validation_speakers(sorted({voice.speaker for voice in voices if voice.actor is None}))
    is_test = np.array([voice.actor in split.test for voice in voices])
    validates = np.array([voice.actor in split.validation or voice.speaker in validation for voice in voices])
    if not validates.any() and not no_validation:
        raise DataError(f"the recordings have fewer than {MIN_SPEAKERS} speakers of each corpus: none of them can validate")
    is_trained = ~is_test if no_validation else ~is_test & ~validates
    parts = [np.flatnonzero(part) for part in (is_trained, validates, is_test)]
    if mix_actors:
        order = np.random.default_rng(MIXED_SEED).permutation(len(voices))
        parts = [np.sort(part) for part in np.split(order, np.cumsum([len(part) for part in parts])[:-1])]
    return RecordingSplit(*parts)


def validation_speakers(speakers: Sequence[str]) -> set[str]:
    """Return those of `speakers` (CORPUS/SPEAKER) that validate: one in ten of each corpus of three speakers or more."""
    chosen: set[str] = set()
    for corpus in {speaker.split("/")[0] for speaker in speakers}:
        own = [speaker for speaker in speakers if speaker.split("/")[0] == corpus]
        if len(own) >= MIN_SPEAKERS:
            own.sort(key=lambda speaker: hashlib.sha256(speaker.encode()).hexdigest())
            chosen.update(own[: -(-len(own) // VALIDATION_DIVISOR)])
    return chosen


def actors_of(voices: Sequence[Utterance], rows: I64) -> list[int]:
    """Return the RAVDESS actors of these rows, ascending."""
    return sorted({actor for row in rows if (actor := voices[row].actor) is not None})


def speakers_of(voices: Sequence[Utterance], rows: I64) -> list[str]:
    """Return the speakers of these rows (CORPUS/SPEAKER), in alphabetical order."""
    return sorted({voices[row].speaker for row in rows})


def image_hashes(faces: U8) -> NDArray[np.str_]:
    """Return the SHA-256 of the pixels of each image, [N] strings of 64 hexadecimal digits."""
    return np.array([hashlib.sha256(face.tobytes()).hexdigest() for face in faces], dtype="<U64")


@dataclass(frozen=True, slots=True)
class ImageSplit:
    """FER2013 row numbers of each part, int64. Each distinct training image occurs in one row."""

    train: I64
    validation: I64
    dropped: I64  # training rows whose image is also in a test part


def split_images(hashes: NDArray[np.str_], usage: NDArray[np.str_]) -> ImageSplit:
    """Split FER2013 rows by their hashes [N] and usages [N]. The hash selects the validation set: row order has no effect."""
    training = usage == "Training"
    leaked = training & np.isin(hashes, hashes[~training])
    usable = np.flatnonzero(training & ~leaked)
    _, first = np.unique(hashes[usable], return_index=True)
    rows = np.sort(usable[first])
    is_validation = np.array([int(digest[:8], 16) % VALIDATION_DIVISOR == 0 for digest in hashes[rows]], dtype=bool)
    return ImageSplit(rows[~is_validation], rows[is_validation], np.flatnonzero(leaked))
