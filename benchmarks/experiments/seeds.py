"""usage: python -m benchmarks.experiments.seeds --config FILE --data DIR --out DIR --json FILE ...

Train the five folds of the speech model again with other seeds, and say how far the pooled figures lie apart: that much of any
difference between two recipes is luck. OUT holds the folds of `make folds`, OUT/again1 those with the next seeds, and so on;
what is there already is not trained again. `--fold K` trains that fold of every seed and stops; several can run at once.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.experiments.cross_validation import calibrate_folds, folder_of, train_folds
from moodring.errors import MoodringError
from moodring.evaluation.metrics import classification_metrics
from moodring.interrupts import INTERRUPTED
from moodring.train.data.splits import FOLDS
from moodring.train.recipe import SpeechRecipe, read_first, read_recipe
from moodring.train.run_folder import commit, read_card, spread, write_json
from moodring.train.speech import clip_probabilities

SEED_STEP = 10  # between one run's seeds and the next one's
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "ece")


def raised(recipe: SpeechRecipe, run: int) -> SpeechRecipe:
    return replace(recipe, seed=recipe.seed + SEED_STEP * run)


def run_folder(out_dir: Path, run: int) -> Path:
    return out_dir / f"again{run}" if run else out_dir


def measure(data_dir: Path, out_dir: Path) -> dict[str, Any]:
    """Return the pooled figures of five trained folds, by their own float32 networks, and the accuracy of each."""
    probabilities, truth = [], []
    for fold, (outs, hops) in enumerate(calibrate_folds(data_dir, out_dir)):
        temperature = read_card(folder_of(out_dir, fold), "speech")["temperature"]["logits"]
        said, labels = clip_probabilities(outs["logits"], hops, temperature)
        probabilities.append(said)
        truth.append(labels)
    pooled = classification_metrics(np.concatenate(probabilities), np.concatenate(truth))
    by_fold = [float((said.argmax(axis=1) == labels).mean()) for said, labels in zip(probabilities, truth, strict=True)]
    card = read_card(folder_of(out_dir, 0), "speech")
    seeds = [card[part]["seed"] for part in ("first", "recipe") if part in card]
    return {"seeds": seeds, **{name: pooled[name] for name in FIGURES}, "accuracy_by_fold": by_fold}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.seeds", description=__doc__)
    for name in ("--config", "--data", "--out", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many, those of `make folds` among them")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="train this one of every seed and stop")
    given = parser.parse_args(arguments)
    if given.seeds < 2:
        parser.error(f"--seeds must be at least 2 for a spread, got {given.seeds}")
    folds = range(FOLDS) if given.fold is None else (given.fold,)
    try:
        recipe = read_recipe(given.config, "speech")
        first = read_first(recipe, given.config)
        torch.set_num_threads(recipe.threads if given.fold is None else 1)
        torch.use_deterministic_algorithms(mode=True)
        for run in range(1, given.seeds):
            networks = raised(recipe, run), raised(first, run) if first else None
            if not train_folds(*networks, given.data, run_folder(given.out, run), folds, cache=given.out / "cache"):
                return INTERRUPTED
        if given.fold is not None:
            return 0
        runs = [measure(given.data, run_folder(given.out, run)) for run in range(given.seeds)]
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    accuracy = spread([run["accuracy"] for run in runs])
    document = {
        "what": "speech, five folds over twenty actors pooled, trained with several seeds",
        "commit": commit(),
        "command": "make seeds",
        "runs": runs,
        "accuracy": accuracy,
    }
    write_json(given.json, document)
    print(f"accuracy {accuracy['mean']:.4f} +- {accuracy['deviation']:.4f} over {len(runs)} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
