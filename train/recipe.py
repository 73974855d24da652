"""Recipes: configs/train/*.yaml as frozen dataclasses. An unknown or missing key or a wrong type is one clear error."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from moodring.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Recipe:
    """What every kind of training needs. Rates are AdamW's; `averaging` is the weight of the past in the averaged weights."""

    kind: str
    seed: int
    threads: int
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: float
    averaging: float


@dataclass(frozen=True, slots=True)
class FaceRecipe(Recipe):
    after: str  # the recipe, in this one's folder, that is trained first and gone on from; "" for a fresh start
    teacher_weight: float  # of that training's own answers in the targets
    width: int
    bfloat16: bool  # as for speech
    small_side: int  # pixels of a crop's side in the first `small_epochs`, which cost the square of what it saves
    small_epochs: int
    dropout: float
    label_smoothing: float
    mixup: float  # Beta(a, a) of the mixing weight; 0 switches it off
    rotation_degrees: float
    zoom: float
    shift: float  # of the picture's side
    light: float
    erase: float  # probability that a patch is erased
    erase_side: float  # of the picture's side: the most a patch has
    erase_grey: bool  # before the picture is normalised, as what covers a real face changes it all; else after
    nonfaces: int  # beside each batch of faces
    ferplus_weight: float
    usable_weight: float
    official_share: float  # of the official head's answer in the ferplus head's, once trained; all of it without FER+


@dataclass(frozen=True, slots=True)
class SpeechRecipe(Recipe):
    after: str  # the recipe, in this one's folder, of a network trained before this one and joined with it; "" for none
    early: int  # channels before `width`
    width: int
    dropout: float
    label_smoothing: float
    mixup: float
    bfloat16: bool  # convolve in it: half again as fast on processors that have it, far slower on others
    fold: int | None  # whose test actors are held out; null holds out nobody but the validation actors
    views: int  # windows drawn from each clip and epoch
    versions: int  # of each recording in the pool
    shortest_s: float
    speed: float  # pitch and tempo together: the most its logarithm moves, as for tempo and mel_scale
    tempo: float  # tempo alone
    mel_scale: float  # of the mel axis: the length of the vocal tract
    mel_shift: float  # in mel filters, plus or minus
    masks: int  # bands, and stretches of time, at most
    gain_db: float
    room: float  # probability that the voice stands in a room
    band_limit: float  # probability that low and high frequencies are lost
    noise: float  # probability that noise is mixed in
    snr_db: tuple[float, float]
    nonspeech: int  # beside each batch of speech
    usable_weight: float


@dataclass(frozen=True, slots=True)
class FusionRecipe(Recipe):
    fold: int | None  # whose test actors are held out
    pairs: int  # an epoch
    modality_dropout: float  # probability that one of the two is trusted less, and wrong as often as it should be
    validation_pairs: int


RECIPE_CLASSES: dict[str, type[Recipe]] = {"face": FaceRecipe, "speech": SpeechRecipe, "fusion": FusionRecipe}


def _parse_value(path: Path, key: str, annotation: str, value: Any) -> Any:
    if annotation == "int | None" and value is None:
        return None
    if annotation == "tuple[float, float]":
        if isinstance(value, list) and len(value) == 2 and all(isinstance(item, int | float) for item in value):
            return (float(value[0]), float(value[1]))
    elif annotation == "bool" and isinstance(value, bool):
        return value
    elif annotation == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif (annotation.startswith("int") and isinstance(value, int) and not isinstance(value, bool)) or (
        annotation == "str" and isinstance(value, str)
    ):
        return value
    raise ConfigError(f"{path}: {key} must be {annotation}, found {value!r}")


def read_recipe(path: Path, kind: str) -> Any:
    """Read a recipe of `kind`; every key must be there, because a recipe is the record of what was trained."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold keys and values")
    fields = {field.name: str(field.type) for field in dataclasses.fields(RECIPE_CLASSES[kind])}
    for key in document:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1)
            raise ConfigError(f"{path}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    missing = [key for key in fields if key not in document]
    if missing:
        raise ConfigError(f"{path}: lacks {', '.join(missing)}")
    if document["kind"] != kind:
        raise ConfigError(f"{path}: is a recipe for {document['kind']!r}, not for {kind}")
    return RECIPE_CLASSES[kind](**{key: _parse_value(path, key, fields[key], value) for key, value in document.items()})


def read_parent_recipe(recipe: Any, path: Path) -> Any:
    """Read the recipe that one read from `path` wants trained first; None where it wants none."""
    name = getattr(recipe, "after", "")
    return read_recipe(path.parent / name, recipe.kind) if name else None


def read_ancestor_recipes(recipe: Any, path: Path) -> list[Any]:
    """Read every recipe that is trained before one read from `path`, the latest first."""
    chain = [recipe]
    while (previous := read_parent_recipe(chain[-1], path)) is not None:
        if previous in chain:
            raise ConfigError(f'{path.parent / chain[-1].after}: comes after itself; one recipe must start with after: ""')
        chain.append(previous)
    return chain[1:]
