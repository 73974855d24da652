"""`moodring train face|speech|fusion`: read the recipe, train, write the weights and a run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from moodring.errors import UsageError
from moodring.process import INTERRUPTED
from moodring.train.face import train_face
from moodring.train.fusion import train_fusion
from moodring.train.recipe import read_ancestor_recipes, read_recipe
from moodring.train.speech import train_speech

TRAINERS: dict[str, Callable[..., bool]] = {"face": train_face, "speech": train_speech, "fusion": train_fusion}


def train(kind: str, config_path: Path, folders: Sequence[Path], out_dir: Path) -> int:
    """Train one branch on the data in `folders`: speech on any number of corpora, the others on one folder.

    Write KIND.safetensors, its card KIND.json and the run folder KIND into `out_dir`. Return the exit code: 0 after the last
    epoch, 130 after Ctrl-C (the best weights are kept). Raise ConfigError on an invalid recipe, UsageError on too many folders
    and DataError on missing or damaged data.
    """
    recipe = read_recipe(Path(config_path), kind)
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(mode=True)
    ancestors = read_ancestor_recipes(recipe, Path(config_path))
    if kind != "speech" and len(folders) > 1:
        raise UsageError(f"train {kind} reads one --data folder, got {len(folders)}")
    data = folders if kind == "speech" else folders[0]
    finished = TRAINERS[kind](recipe, data, Path(out_dir), *ancestors)
    return 0 if finished else INTERRUPTED
