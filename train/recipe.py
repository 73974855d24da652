"""Training recipes (configs/train/*.yaml) as frozen dataclasses. Unknown or missing keys and wrong types raise ConfigError."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodring.config.document import read_plain
from moodring.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Recipe:
    """Keys that every recipe has."""

    kind: str
    seed: int
    threads: int
    epochs: int
    batch: int
    learning_rate: float  # of AdamW, after the warm-up
    weight_decay: float
    warmup_epochs: float
    averaging: float  # decay of the exponential moving average of the weights


@dataclass(frozen=True, slots=True)
class FaceRecipe(Recipe):
    """Keys of a face recipe."""

    after: str  # recipe in the same folder that is trained first; training continues from its weights; "" for none
    teacher_weight: float  # share of the parent network's outputs in the targets
    width: int  # channels after the first convolution
    bfloat16: bool  # autocast the convolutions to bfloat16: faster only on processors that support it
    small_side: int  # crop side in pixels during the first `small_epochs`; the cost falls with its square
    small_epochs: int
    dropout: float
    label_smoothing: float
    mixup: float  # a of the mixing weight's distribution Beta(a, a); 0 disables mixup
    rotation_degrees: float  # maximum, either way
    zoom: float  # maximum change of the scale
    shift: float  # maximum, as a share of the image side
    light: float  # maximum of the logarithm of gamma
    erase: float  # probability that a patch is erased
    erase_side: float  # maximum side of the patch, as a share of the image side
    erase_grey: bool  # true: before normalisation, because an occluder changes the normalisation; false: after it
    nonfaces: int  # non-face images added to each batch
    ferplus_weight: float
    usable_weight: float
    official_share: float  # share of the official head blended into the ferplus head after training; 1 without FER+


@dataclass(frozen=True, slots=True)
class SpeechRecipe(Recipe):
    """Keys of a speech recipe."""

    after: str  # recipe in the same folder for a second network; the two form an ensemble; "" for none
    early: int  # channels at 20 ms a frame
    width: int  # channels at 40 ms a frame
    dropout: float
    label_smoothing: float
    mixup: float
    bfloat16: bool  # autocast to bfloat16: 1.5x faster on processors that support it, much slower on others
    fold: int | None  # fold whose test actors are held out; null: only the validation actors are held out
    views: int  # windows from each recording in an epoch
    corpus_balance: float  # a corpus of n recordings is drawn with a weight of n ** corpus_balance; 1: as often as it is large
    class_balance: float  # a class of n recordings is drawn with a weight of n ** -class_balance within its corpus; 0: as it is
    votes: float  # share of the listeners' votes in the targets of recordings that have them
    baseline: float  # probability that the baseline of the speaker is subtracted; 0: the network has no baseline
    versions: int  # augmented versions of each recording in the pool, with the original
    original: float  # probability that a window is drawn from the original; else from any version
    shortest_s: float  # minimum length of a window
    speed: float  # pitch and tempo together: maximum of the logarithm, as for tempo and mel_scale
    tempo: float  # tempo only
    mel_scale: float  # scale of the mel axis, which models the length of the vocal tract
    mel_shift: float  # mel filters, either way
    masks: int  # maximum number of frequency masks and of time masks
    gain_db: float
    room: float  # probability of reverberation
    band_limit: float  # probability of a band limit
    noise: float  # probability of added noise
    snr_db: tuple[float, float]
    hum: float  # probability of mains hum and a constant offset
    codec: float  # probability of a lossy codec
    packet_loss: float  # probability of lost packets
    nonspeech: int  # non-speech windows added to each batch
    usable_weight: float


@dataclass(frozen=True, slots=True)
class FusionRecipe(Recipe):
    """Keys of a fusion recipe."""

    fold: int | None  # fold whose test actors are held out
    pairs: int  # in an epoch
    modality_dropout: float  # probability that one modality gets a random presence p, and with probability 1 - p a random input
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
    """Read a recipe of `kind`: face, speech or fusion. Every key is required, because the recipe records the training.

    Raise ConfigError, with the path, on an unknown or missing key or a wrong type.
    """
    document = read_plain(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values")
    fields = {field.name: str(field.type) for field in dataclasses.fields(RECIPE_CLASSES[kind])}
    for key in document:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1)
            raise ConfigError(f"{path}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    missing = [key for key in fields if key not in document]
    if missing:
        raise ConfigError(f"{path}: missing keys: {', '.join(missing)}; every key is required")
    if document["kind"] != kind:
        raise ConfigError(f"{path}: is a recipe for {document['kind']!r}, not for {kind!r}")
    return RECIPE_CLASSES[kind](**{key: _parse_value(path, key, fields[key], value) for key, value in document.items()})


def read_parent_recipe(recipe: Any, path: Path) -> Any:
    """Read the recipe that `recipe.after` names, beside `path`; return None if it names none."""
    name = getattr(recipe, "after", "")
    return read_recipe(path.parent / name, recipe.kind) if name else None


def read_ancestor_recipes(recipe: Any, path: Path) -> list[Any]:
    """Read all recipes that are trained before `recipe`, which was read from `path`; the latest comes first.

    Raise ConfigError if the recipes form a cycle.
    """
    chain = [recipe]
    while (previous := read_parent_recipe(chain[-1], path)) is not None:
        if previous in chain:
            raise ConfigError(
                f'{path.parent / chain[-1].after}: `after` leads back to this recipe; one recipe must have after: ""'
            )
        chain.append(previous)
    return chain[1:]
