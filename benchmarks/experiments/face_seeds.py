"""usage: python -m benchmarks.experiments.face_seeds --config FILE --data DIR --out DIR --json FILE ...

Variation over seeds of the face model. Trains the model again with other seeds and reports the standard deviation of its
figures: a difference of that size between two recipes can come from the seed alone. OUT contains the training of `moodring
train face`, which is only read; OUT/face_again1 is that with the next seed, and so on. Interrupted trainings resume. `--run K`
trains that run and stops, so that several can run in parallel. With `--last-part` only the last recipe gets other seeds, in
OUT/face_last1 and so on; these start from the weights in OUT/first, so the variation of the earlier recipes is not included.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moodring.errors import ConfigError, MoodringError
from moodring.evaluation.corruption import CORRUPTIONS
from moodring.evaluation.data.readers import read_fer2013, read_ferplus
from moodring.evaluation.face import CORRUPTION_SEED, ferplus_majority
from moodring.evaluation.provenance import commit
from moodring.export.held_out import SPLIT
from moodring.process import INTERRUPTED
from moodring.train.data.faces import find_fer2013
from moodring.train.face import OCCLUDED_AREA, is_trained, train_face
from moodring.train.models.face import FaceNet, predict
from moodring.train.recipe import FaceRecipe, read_ancestor_recipes, read_recipe
from moodring.train.run_folder import load_weights, mean_and_deviation, read_card, write_json
from moodring.types import U8


def with_other_seed(recipe: FaceRecipe, run: int) -> FaceRecipe:
    return replace(recipe, seed=recipe.seed + run)


def run_folder(out_dir: Path, run: int, *, last_part: bool) -> Path:
    return out_dir / f"face_{'last' if last_part else 'again'}{run}" if run else out_dir


@dataclass(frozen=True, slots=True)
class HeldOutImages:
    """The images of SPLIT: uint8 [N, 48, 48], unchanged and occluded, and the labels int64 [N] by head, -1 for none."""

    faces: U8
    occluded: U8
    truth: dict[str, NDArray[np.int64]]


def read_held_out_images(data_dir: Path) -> HeldOutImages:
    csv, votes = find_fer2013(data_dir)
    fer = read_fer2013(csv)
    rows = np.flatnonzero(fer.usage == SPLIT)
    truth = {"official": fer.labels[rows]}
    if votes is not None:
        truth["ferplus"] = ferplus_majority(read_ferplus(votes, len(fer.labels)).votes[rows])
    occluded = CORRUPTIONS["occlusion"].apply(fer.faces[rows], OCCLUDED_AREA, np.random.default_rng(CORRUPTION_SEED))
    return HeldOutImages(fer.faces[rows], occluded, truth)


def measure(images: HeldOutImages, folder: Path) -> dict[str, Any]:
    """Return the figures of one training on the held-out images, from its float32 PyTorch network."""
    card = read_card(folder, "face")
    model = load_weights(folder, "face", FaceNet(width=card["network"]["width"]))
    outputs, occluded_outputs = predict(model, images.faces), predict(model, images.occluded)
    figures: dict[str, Any] = {"seed": card["recipe"]["seed"]}
    for head, labels in images.truth.items():
        known = labels >= 0
        accuracy, occluded_accuracy = (
            float((by_head[head].argmax(axis=1) == labels)[known].mean()) for by_head in (outputs, occluded_outputs)
        )
        figures |= {head: accuracy, f"{head}_covered": occluded_accuracy}
    return figures


def check_recipes(recipes: Sequence[FaceRecipe], out_dir: Path) -> None:
    """Raise ConfigError if OUT was trained with other recipes than these, because the runs would not be comparable."""
    card = read_card(out_dir, "face")
    for recipe, recorded in zip(recipes, (card["recipe"], *card["before"]), strict=False):
        given = asdict(replace(recipe, threads=recorded["threads"]))
        if changed := [name for name in recorded if given.get(name) != recorded[name]]:  # older cards lack newer settings
            raise ConfigError(
                f"{out_dir / 'face.json'}: trained with another recipe ({', '.join(changed)}); give that recipe, or train again"
            )


def train_reseeded(recipes: Sequence[FaceRecipe], data_dir: Path, out_dir: Path, run: int, *, last_part: bool) -> bool:
    """Train with another seed: the last recipe (`recipes[0]`) and the recipes before it.

    With `last_part` the earlier recipes keep their seeds and the training starts from the weights in OUT/first. Returns False
    if Ctrl-C ended the training before the last epoch.
    """
    folder = run_folder(out_dir, run, last_part=last_part)
    reseeded = [
        with_other_seed(recipes[0], run),
        *(recipes[1:] if last_part else [with_other_seed(each, run) for each in recipes[1:]]),
    ]
    if is_trained(folder, reseeded):
        return True
    if last_part:
        read_card(out_dir / "first", "face")  # raises DataError if it is missing
        (folder / "first").mkdir(parents=True, exist_ok=True)
        for source in (out_dir / "first").glob("face.*"):
            shutil.copy2(source, folder / "first")
    return train_face(reseeded[0], data_dir, folder, *reseeded[1:])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.face_seeds", description=__doc__)
    for name in ("--config", "--data", "--out", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, including that of `moodring train face` (3)")
    parser.add_argument("--last-part", action="store_true", help="use other seeds for the last recipe only")
    parser.add_argument("--run", type=int, help="train this run and stop; 1 is the first with another seed")
    args = parser.parse_args(arguments)
    if args.seeds < 2:
        parser.error(f"--seeds must be at least 2 for a standard deviation, got {args.seeds}")
    if args.run is not None and not 0 < args.run < args.seeds:
        parser.error(f"--run must be 1 to {args.seeds - 1}, got {args.run}")
    try:
        recipe = read_recipe(args.config, "face")
        recipes = (recipe, *read_ancestor_recipes(recipe, args.config))
        torch.set_num_threads(recipe.threads if args.run is None else 1)
        torch.use_deterministic_algorithms(mode=True)
        check_recipes(recipes, args.out)
        for run in range(1, args.seeds) if args.run is None else (args.run,):
            if not train_reseeded(recipes, args.data, args.out, run, last_part=args.last_part):
                return INTERRUPTED
        if args.run is not None:
            return 0
        images = read_held_out_images(args.data)
        runs = [measure(images, run_folder(args.out, run, last_part=args.last_part)) for run in range(args.seeds)]
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    deviations = {name: mean_and_deviation([run[name] for run in runs]) for name in runs[0] if name != "seed"}
    document = {
        "what": f"face, {SPLIT}, trained with several seeds; "
        f"covered: a grey square over {100 * OCCLUDED_AREA:.0f} % of each image",
        "commit": commit(),
        "command": "make face-seeds" + (" SEEDS=--last-part" if args.last_part else ""),
        "parts": "last" if args.last_part else "all",
        "runs": runs,
        **deviations,
    }
    write_json(args.json, document)
    for name, summary in deviations.items():
        print(f"{name} {summary['mean']:.4f} +- {summary['deviation']:.4f} over {len(runs)} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
