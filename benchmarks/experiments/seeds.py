"""usage: python -m benchmarks.experiments.seeds --config FILE --data DIR --out DIR --json FILE ...

Variation over seeds of the speech model. Trains the five folds again with other seeds and reports the standard deviation of the
pooled figures: a difference of that size between two recipes can come from the seed alone. OUT contains the folds of `make
folds`, OUT/again1 those with the next seeds, and so on. Trained folds are not trained again. `--fold K` trains that fold of
every seed and stops, so that several can run in parallel.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.experiments.cross_validation import calibrate_folds, fold_folder, train_folds
from moodring.errors import MoodringError
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.provenance import commit
from moodring.process import INTERRUPTED
from moodring.train.data.speech_windows import clip_probabilities
from moodring.train.data.splits import FOLDS
from moodring.train.recipe import SpeechRecipe, read_parent_recipe, read_recipe
from moodring.train.run_folder import mean_and_deviation, read_card, write_json

SEED_STEP = 10  # between the seeds of consecutive runs
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "ece")


def with_other_seed(recipe: SpeechRecipe, run: int) -> SpeechRecipe:
    return replace(recipe, seed=recipe.seed + SEED_STEP * run)


def run_folder(out_dir: Path, run: int) -> Path:
    return out_dir / f"again{run}" if run else out_dir


def measure(data_dir: Path, out_dir: Path) -> dict[str, Any]:
    """Return the pooled figures of five trained folds, from their float32 PyTorch networks, and the accuracy of each."""
    probabilities, truth = [], []
    for fold, (outputs, speech_windows) in enumerate(calibrate_folds(data_dir, out_dir)):
        temperature = read_card(fold_folder(out_dir, fold), "speech")["temperature"]["logits"]
        fold_probabilities, labels = clip_probabilities(outputs["logits"], speech_windows, temperature)
        probabilities.append(fold_probabilities)
        truth.append(labels)
    pooled = classification_metrics(np.concatenate(probabilities), np.concatenate(truth))
    by_fold = [
        float((fold_probabilities.argmax(axis=1) == labels).mean())
        for fold_probabilities, labels in zip(probabilities, truth, strict=True)
    ]
    card = read_card(fold_folder(out_dir, 0), "speech")
    seeds = [card[part]["seed"] for part in ("first", "recipe") if part in card]
    return {"seeds": seeds, **{name: pooled[name] for name in FIGURES}, "accuracy_by_fold": by_fold}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.seeds", description=__doc__)
    for name in ("--config", "--data", "--out", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, including that of `make folds` (3)")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="train this fold of every seed and stop")
    args = parser.parse_args(arguments)
    if args.seeds < 2:
        parser.error(f"--seeds must be at least 2 for a standard deviation, got {args.seeds}")
    folds = range(FOLDS) if args.fold is None else (args.fold,)
    try:
        recipe = read_recipe(args.config, "speech")
        first_recipe = read_parent_recipe(recipe, args.config)
        torch.set_num_threads(recipe.threads if args.fold is None else 1)
        torch.use_deterministic_algorithms(mode=True)
        for run in range(1, args.seeds):
            networks = with_other_seed(recipe, run), with_other_seed(first_recipe, run) if first_recipe else None
            if not train_folds(*networks, args.data, run_folder(args.out, run), folds, cache=args.out / "cache"):
                return INTERRUPTED
        if args.fold is not None:
            return 0
        runs = [measure(args.data, run_folder(args.out, run)) for run in range(args.seeds)]
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    accuracy = mean_and_deviation([run["accuracy"] for run in runs])
    document = {
        "what": "speech, five folds over twenty actors pooled, trained with several seeds",
        "commit": commit(),
        "command": "make seeds",
        "runs": runs,
        "accuracy": accuracy,
    }
    write_json(args.json, document)
    print(f"accuracy {accuracy['mean']:.4f} +- {accuracy['deviation']:.4f} over {len(runs)} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
