"""Cross-validation of the speech model: five folds of 16 training and 4 test actors, the basis of all held-out figures.

Training has a fixed length, so no validation data select anything. The temperature and the `usable` threshold of a fold are
fitted on the outputs of the other four models for their own held-out actors, so the test actors do not calibrate the fold
either. The shipped model is trained on all twenty actors by the same recipe and calibrated on the held-out outputs of all five
models. No actors are left to test it on; its expected figures are those of the folds.
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

# These words, and the protocol of a fold below, are part of the id of a bundle.
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
    """Train these folds, each into OUT/foldK; return False if Ctrl-C ended the training before the last epoch.

    `cache` is the folder for the pool of augmented recordings (default OUT/cache).
    """
    return all(
        train_speech(
            replace(recipe, fold=fold),
            [data_dir],
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
    """Train on every actor, into OUT/shipped; return False if Ctrl-C ended the training before the last epoch."""
    return train_speech(
        replace(recipe, fold=None),
        [data_dir],
        shipped_folder(out_dir),
        replace(first_recipe, fold=None) if first_recipe else None,
        out_dir / "cache",
        no_validation=True,
    )


def train_mixed(recipe: SpeechRecipe, data_dir: Path, out_dir: Path) -> bool:
    """Train one network on a split that mixes actors, into OUT/mixed, to show by how much such a split inflates figures."""
    return train_speech(recipe, [data_dir], out_dir / "mixed", cache=out_dir / "cache", mix_actors=True)


def _predict_held_out(data_dir: Path, out_dir: Path) -> list[tuple[dict[str, F32], SpeechWindows]]:
    """Return, for each fold, the outputs of its network by name for the windows of its held-out actors, and those windows."""
    spec = SpeechSpec()
    voices = load_utterances([data_dir], spec)
    held_out: list[tuple[dict[str, F32], SpeechWindows]] = []
    for fold in range(FOLDS):
        folder = fold_folder(out_dir, fold)
        model = load_weights(folder, "speech", SpeechNet(spec.columns, **read_card(folder, "speech")["network"]))
        speech_windows = extract_windows([voice for voice in voices if voice.actor in fold_actors(fold)], spec)
        held_out.append((predict(model, speech_windows.windows), speech_windows))
    return held_out


def calibrate_folds(data_dir: Path, out_dir: Path) -> list[tuple[dict[str, F32], SpeechWindows]]:
    """Fit each fold's temperature and `usable` threshold on the other folds' held-out outputs; write them into its card.

    Returns, for each fold, the outputs of its network by name for the windows of its held-out actors, and those windows.
    """
    held_out = _predict_held_out(data_dir, out_dir)
    for fold in range(FOLDS):
        others = [part for index, part in enumerate(held_out) if index != fold]
        test_actors = list(fold_actors(fold))
        protocol = f"actors apart: {test_actors} unheard, the other folds' unheard actors calibrated"
        _calibrate(fold_folder(out_dir, fold), others, protocol)
    return held_out


def calibrate_shipped(held_out: Sequence[tuple[dict[str, F32], SpeechWindows]], out_dir: Path) -> None:
    """Calibrate the model that was trained on every actor with the held-out outputs of all folds."""
    _calibrate(shipped_folder(out_dir), held_out, PROTOCOL)


def _calibrate(folder: Path, held_out: Sequence[tuple[dict[str, F32], SpeechWindows]], protocol: str) -> None:
    outputs = {name: np.concatenate([part[name] for part, _ in held_out]) for name in ("logits", "usable")}
    windows = concatenate_windows([speech_windows for _, speech_windows in held_out])
    card = read_card(folder, "speech")
    card["temperature"] = {"logits": fit_clip_temperature(outputs["logits"], windows)}
    card["usable_line"] = usable_threshold(outputs["usable"])
    card["protocol"] = protocol
    write_json(folder / "speech.json", card)


def concatenate_windows(parts: Sequence[SpeechWindows]) -> SpeechWindows:
    """Concatenate the windows of several sets of clips; clip indices are shifted accordingly."""
    before = np.cumsum([0] + [len(part.labels) for part in parts])
    return SpeechWindows(
        np.concatenate([part.windows for part in parts]),
        np.concatenate([part.clip_index + start for part, start in zip(parts, before, strict=False)]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def split_hash(card: dict[str, Any]) -> str:
    """Return the SHA-256 of the lists of training, validation and test actors in a card."""
    return hashlib.sha256(json.dumps(card["actors"], sort_keys=True).encode()).hexdigest()
