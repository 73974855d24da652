"""usage: python -m benchmarks.experiments.face_seeds --config FILE --data DIR --out DIR --json FILE ...

Train the face model again with other seeds, and say how far the figures lie apart: that much of any difference between two
recipes is luck. OUT holds the training of `moodring train face`, which is only read; OUT/face_again1 is that with the next
seed, and so on; what was stopped goes on. `--run K` trains that one and stops; several can run at once. With `--last-part`
only the last recipe has other seeds, in OUT/face_last1 and so on: all go on from the weights in OUT/first, which hides what
luck there was before them.
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
from moodring.process import INTERRUPTED
from moodring.train.data.faces import find_fer2013
from moodring.train.face import OCCLUDED_AREA, is_trained, train_face
from moodring.train.models.face import FaceNet, predict
from moodring.train.recipe import FaceRecipe, read_ancestor_recipes, read_recipe
from moodring.train.run_folder import load_weights, mean_and_deviation, read_card, write_json
from moodring.types import U8

SPLIT = "PublicTest"


def with_other_seed(recipe: FaceRecipe, run: int) -> FaceRecipe:
    return replace(recipe, seed=recipe.seed + run)


def run_folder(out_dir: Path, run: int, *, last_part: bool) -> Path:
    return out_dir / f"face_{'last' if last_part else 'again'}{run}" if run else out_dir


@dataclass(frozen=True, slots=True)
class HeldOutImages:
    """The public test part: uint8 [N, 48, 48] as it is and covered, and the true labels int64 [N] by head, -1 for none."""

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
    """Return one training's figures on the public test part, by its own float32 network."""
    card = read_card(folder, "face")
    model = load_weights(folder, "face", FaceNet(width=card["network"]["width"]))
    seen, occluded_outputs = predict(model, images.faces), predict(model, images.occluded)
    figures: dict[str, Any] = {"seed": card["recipe"]["seed"]}
    for head, labels in images.truth.items():
        known = labels >= 0
        clean, occluded_accuracy = (
            float((outs[head].argmax(axis=1) == labels)[known].mean()) for outs in (seen, occluded_outputs)
        )
        figures |= {head: clean, f"{head}_covered": occluded_accuracy}
    return figures


def check_recipes(recipes: Sequence[FaceRecipe], out_dir: Path) -> None:
    """Raise ConfigError where OUT was trained by other recipes than these: other seeds of these would not tell of it."""
    card = read_card(out_dir, "face")
    for recipe, was in zip(recipes, (card["recipe"], *card["before"]), strict=False):
        now = asdict(replace(recipe, threads=was["threads"]))
        if changed := [name for name in was if now.get(name) != was[name]]:  # it may be from before a setting was there
            raise ConfigError(
                f"{out_dir / 'face.json'}: was trained by another recipe ({', '.join(changed)}); give that one, or train again"
            )


def train_reseeded(recipes: Sequence[FaceRecipe], data_dir: Path, out_dir: Path, run: int, *, last_part: bool) -> bool:
    """Train the last of the recipes, which is the first given, with another seed, and those before it unless OUT has them.

    Returns whether every epoch was done. With `last_part` it goes on from OUT/first.
    """
    folder = run_folder(out_dir, run, last_part=last_part)
    reseeded = [
        with_other_seed(recipes[0], run),
        *(recipes[1:] if last_part else [with_other_seed(each, run) for each in recipes[1:]]),
    ]
    if is_trained(folder, reseeded):
        return True
    if last_part:
        read_card(out_dir / "first", "face")  # names what is not there
        (folder / "first").mkdir(parents=True, exist_ok=True)
        for source in (out_dir / "first").glob("face.*"):
            shutil.copy2(source, folder / "first")
    return train_face(reseeded[0], data_dir, folder, *reseeded[1:])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.face_seeds", description=__doc__)
    for name in ("--config", "--data", "--out", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many, that of `moodring train face` among them")
    parser.add_argument("--last-part", action="store_true", help="other seeds for the last recipe alone")
    parser.add_argument("--run", type=int, help="train this one, 1 being the first with another seed, and stop")
    args = parser.parse_args(arguments)
    if args.seeds < 2:
        parser.error(f"--seeds must be at least 2 for a spread, got {args.seeds}")
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
        found = [measure(images, run_folder(args.out, run, last_part=args.last_part)) for run in range(args.seeds)]
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    deviations = {name: mean_and_deviation([run[name] for run in found]) for name in found[0] if name != "seed"}
    document = {
        "what": f"face, {SPLIT}, trained with several seeds; covered: a grey square over {100 * OCCLUDED_AREA:.0f} % of each picture",
        "commit": commit(),
        "command": "make face-seeds" + (" SEEDS=--last-part" if args.last_part else ""),
        "parts": "last" if args.last_part else "all",
        "runs": found,
        **deviations,
    }
    write_json(args.json, document)
    for name, summary in deviations.items():
        print(f"{name} {summary['mean']:.4f} +- {summary['deviation']:.4f} over {len(found)} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
