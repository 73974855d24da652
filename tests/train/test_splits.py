"""Training, validation and test splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodring.errors import DataError, UsageError
from moodring.evaluation.data.readers import list_ravdess, read_fer2013
from moodring.train.data.splits import FOLDS, fold_actors, image_hashes, split_actors, split_images

ACTORS = tuple(range(1, 21))


def test_folds_test_each_actor_once_and_balance_the_sexes() -> None:
    tested = [actor for fold in range(FOLDS) for actor in fold_actors(fold)]
    assert sorted(tested) == list(ACTORS)
    for fold in range(FOLDS):
        assert sum(actor % 2 for actor in fold_actors(fold)) == 2


@pytest.mark.parametrize("fold", [0, 1, 2, 3, 4, None])
def test_split_actors_puts_each_actor_into_one_part(fold: int | None) -> None:
    split = split_actors(ACTORS, fold)
    everyone = [*split.train, *split.validation, *split.test]
    assert sorted(everyone) == list(ACTORS)
    assert len(split.validation) == 2
    assert sum(actor % 2 for actor in split.validation) == 1
    assert split.test == (() if fold is None else fold_actors(fold))


def test_split_actors_of_fold_0() -> None:
    split = split_actors(ACTORS, 0)
    assert split.test == (1, 2, 3, 4)
    assert split.validation == (19, 20)
    assert split.train == tuple(range(5, 19))


def test_too_few_actors_and_an_unknown_fold_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        split_actors((1, 2), None)
    with pytest.raises(UsageError, match=r"fold must lie in 0\.\.4"):
        fold_actors(5)


def test_split_images_keeps_copies_in_one_part_and_out_of_the_test_parts() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 48, 48), dtype=np.uint8)
    faces = np.concatenate([images[:300], images[:50], images[300:], images[40:60]])
    usage = np.array(["Training"] * 350 + ["PublicTest"] * 120)
    hashes = image_hashes(faces)
    split = split_images(hashes, usage)
    train, validation, test = (set(hashes[rows]) for rows in (split.train, split.validation, usage != "Training"))
    assert not train & validation
    assert not (train | validation) & test
    assert len(split.train) == len(train)  # one row for each distinct image
    assert len(train) + len(validation) == 300 - 20
    assert set(hashes[split.dropped]) == set(hashes[40:60])
    assert 10 <= len(split.validation) <= 50
    shuffled = rng.permutation(len(faces))
    again = split_images(hashes[shuffled], usage[shuffled])
    assert set(hashes[shuffled][again.validation]) == validation  # independent of the row order


@pytest.mark.data
def test_no_public_test_image_is_in_the_other_parts(fer2013_csv: Path) -> None:
    data = read_fer2013(fer2013_csv)
    split = split_images(image_hashes(data.faces), data.usage)
    used = {face.tobytes() for face in data.faces[np.concatenate([split.train, split.validation])]}
    public = {face.tobytes() for face in data.faces[data.usage == "PublicTest"]}
    assert not used & public
    assert not {face.tobytes() for face in data.faces[split.train]} & {face.tobytes() for face in data.faces[split.validation]}
    assert set(data.usage[split.train]) == {"Training"}
    assert len(split.dropped) > 200
    assert 0.08 < len(split.validation) / (len(split.train) + len(split.validation)) < 0.12


@pytest.mark.data
def test_no_actor_of_the_test_fold_is_in_the_training_part(data_dir: Path) -> None:
    clips = list_ravdess(data_dir / "ravdess")
    for fold in range(FOLDS):
        split = split_actors([clip.actor for clip in clips], fold)
        train, test = ({clip.path.stem[-2:] for clip in clips if clip.actor in part} for part in (split.train, split.test))
        assert not train & test
        assert len(test) == 4
