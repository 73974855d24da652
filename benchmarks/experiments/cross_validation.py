"""Five speech models, each tested on four actors that no part of its making heard: what every held-out figure rests on.

Sixteen actors train, for as long as the recipe says: nothing is left to choose. A fold's temperature, and its line between
speech and what is none, are fitted on what the other four models say of their own unheard actors, so that its test actors
calibrate nothing either. The model that ships is then trained on all twenty by the same recipe, and calibrated by what all five
say of actors they never heard: nobody is left to test it on, and the figures to expect of it are theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.features.spec import SpeechSpec
from moodring.train.data.speech_windows import SpeechWindows, extract_windows
from moodring.train.data.splits import FOLDS, fold_actors
from moodring.train.data.voices import load_utterances
from moodring.train.models.speech import SpeechNet, predict
from moodring.train.recipe import SpeechRecipe
from moodring.train.run_folder import load_weights, read_card, write_json
from moodring.train.speech import fit_clip_temperature, train_speech, usable_threshold

F32 = NDArray[np.float32]

PROTOCOL = "cross-validated: trained on every actor by the recipe of the five folds, whose unheard actors calibrated"


def fold_folder(out_dir: Path, fold: int) -> Path:
    return out_dir / f"fold{fold}"


def train_folds(
    recipe: SpeechRecipe,
    first_recipe: SpeechRecipe | None,
    data_dir: Path,
    out_dir: Path,
    folds: Sequence[int] = range(FOLDS),
    *,
    cache: Path | None = None,
) -> bool:
    """Train these folds, each into OUT/foldK; return whether every epoch of each was done: Ctrl-C ends all of it.

    `cache` keeps the pool of changed recordings: OUT/cache unless given.
    """
    return all(
        train_speech(
            replace(recipe, fold=fold),
            data_dir,
            fold_folder(out_dir, fold),
            replace(first_recipe, fold=fold) if first_recipe else None,
            cache or out_dir / "cache",
            no_validation=True,
        )
        for fold in folds
    )


def shipped_folder(out_dir: Path) -> Path:
    return out_dir / "shipped"


def train_shipped(recipe: SpeechRecipe, first_recipe: SpeechRecipe | None, data_dir: Path, out_dir: Path) -> bool:
    """Train on every actor, into OUT/shipped."""
    return train_speech(
        replace(recipe, fold=None),
        data_dir,
        shipped_folder(out_dir),
        replace(first_recipe, fold=None) if first_recipe else None,
        out_dir / "cache",
        no_validation=True,
    )


def train_mixed(recipe: SpeechRecipe, data_dir: Path, out_dir: Path) -> bool:
    """Train one network on a split that mixes actors, into OUT/mixed: how much such a split flatters."""
    return train_speech(recipe, data_dir, out_dir / "mixed", cache=out_dir / "cache", mix_actors=True)


def _predict_held_out(data_dir: Path, out_dir: Path) -> list[tuple[dict[str, F32], SpeechWindows]]:
    """Return what every fold's network says of the hops of its own unheard actors, by output name, and those hops."""
    spec = SpeechSpec()
    voices = load_utterances(data_dir, spec)
    held_out: list[tuple[dict[str, F32], SpeechWindows]] = []
    for fold in range(FOLDS):
        folder = fold_folder(out_dir, fold)
        model = load_weights(folder, "speech", SpeechNet(spec.columns, **read_card(folder, "speech")["network"]))
        speech_windows = extract_windows([voice for voice in voices if voice.clip.actor in fold_actors(fold)], spec)
        held_out.append((predict(model, speech_windows.windows), speech_windows))
    return held_out


def calibrate_folds(data_dir: Path, out_dir: Path) -> list[tuple[dict[str, F32], SpeechWindows]]:
    """Fit every fold's temperature and usable line on the other folds' unheard actors, and write them into the card of each.

    Returns what every fold's network says of the hops of its own unheard actors, by output name, and those hops.
    """
    held_out = _predict_held_out(data_dir, out_dir)
    for fold in range(FOLDS):
        others = [part for index, part in enumerate(held_out) if index != fold]
        test_actors = list(fold_actors(fold))
        protocol = f"actors apart: {test_actors} unheard, the other folds' unheard actors calibrated"
        _calibrate(fold_folder(out_dir, fold), others, protocol)
    return held_out


def calibrate_shipped(held_out: Sequence[tuple[dict[str, F32], SpeechWindows]], out_dir: Path) -> None:
    """Calibrate the model trained on everyone by what the folds' networks said of actors they never heard."""
    _calibrate(shipped_folder(out_dir), held_out, PROTOCOL)


def _calibrate(folder: Path, held_out: Sequence[tuple[dict[str, F32], SpeechWindows]], protocol: str) -> None:
    outs = {name: np.concatenate([outs[name] for outs, _ in held_out]) for name in ("logits", "usable")}
    card = read_card(folder, "speech")
    card["temperature"] = {
        "logits": fit_clip_temperature(outs["logits"], concatenate_windows([speech_windows for _, speech_windows in held_out]))
    }
    card["usable_line"] = usable_threshold(outs["usable"])
    card["protocol"] = protocol
    write_json(folder / "speech.json", card)


def concatenate_windows(parts: Sequence[SpeechWindows]) -> SpeechWindows:
    """Put the hops of several sets of clips one after another."""
    before = np.cumsum([0] + [len(part.labels) for part in parts])
    return SpeechWindows(
        np.concatenate([part.windows for part in parts]),
        np.concatenate([part.clip_index + start for part, start in zip(parts, before, strict=False)]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def split_hash(card: dict[str, Any]) -> str:
    """Return the SHA-256 of who trains, validates and is tested."""
    return hashlib.sha256(json.dumps(card["actors"], sort_keys=True).encode()).hexdigest()
