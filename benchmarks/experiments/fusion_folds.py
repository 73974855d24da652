"""usage: python -m benchmarks.experiments.fusion_folds --config FILE --data DIR --json FILE ...

Feature against decision fusion under one protocol: five fusions, each trained without four actors and tested on pairs of
their clips with held-out pictures, by the runtime's own code; pooled. Needs the committed checkpoints, the shipped bundle
and the folds' speech bundles; five minutes of one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from benchmarks.experiments import true_pairs
from moodring.errors import ExportError, MoodringError
from moodring.evaluation.data.readers import RavdessClip, list_ravdess
from moodring.evaluation.engine import Engine
from moodring.evaluation.fusion import (
    FRESHNESS,
    ClipOutputs,
    FaceImages,
    conflict_metrics,
    draw_sample,
    noise_metrics,
    pair_metrics,
    read_face_images,
    threshold_metrics,
)
from moodring.evaluation.pairs import PAIRING, PAIRING_CAVEAT, Sample, fuse_conflicting, fuse_with_ablations, subsample_pairs
from moodring.evaluation.provenance import commit
from moodring.export.networks import Network, load_network
from moodring.export.to_onnx import to_onnx
from moodring.features.spec import PreprocessSpec
from moodring.fusion import METHODS
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle, ModelInfo
from moodring.train import fusion
from moodring.train.data import branch_outputs as sides
from moodring.train.data.faces import find_fer2013, load_faces
from moodring.train.data.splits import FOLDS
from moodring.train.data.voices import find_ravdess
from moodring.train.models.fusion import EMBEDDING, OUTPUTS, FusionNet
from moodring.train.recipe import FusionRecipe, read_recipe
from moodring.train.run_folder import write_json
from moodring.types import BranchOutput

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
SPLIT = "PublicTest"
UNTRAINED = "product, untrained"
SPREAD_METRICS = ("accuracy", "macro_f1", "ece")


@dataclasses.dataclass(frozen=True, slots=True)
class SharedInputs:
    """What all folds share: the shipped bundle, the branches, and what was read once."""

    shipped: Bundle
    branches: sides.Branches
    faces: sides.FaceOutputs
    images: FaceImages
    clips: tuple[RavdessClip, ...]
    folds: I64  # whose unheard actor each clip is of
    held_out_outputs: list[list[BranchOutput]]  # what the network that never heard the actor said at each hop


def speech_head(bundle: Bundle) -> tuple[Tensor, Tensor]:
    """Return how a speech bundle reads its embedding, its temperature applied: weight [8, 128] and bias [8]."""
    info = bundle.models["speech"]
    graph = onnx.load(str(info.files["fp32"])).graph
    found = {
        part.name: numpy_helper.to_array(part) for part in graph.initializer if part.name in ("logits.weight", "logits.bias")
    }
    if len(found) != 2:
        raise ExportError(f"{info.files['fp32']}: holds no logits.weight and logits.bias; export it again")
    weight, bias = (
        torch.from_numpy(found[f"logits.{name}"].copy()) / info.temperature["logits"] for name in ("weight", "bias")
    )
    return weight, bias


def fused_bundle(shipped: Bundle, fold_bundle: Bundle, net: FusionNet, summary: dict[str, Any], folder: Path) -> Bundle:
    """Return the shipped bundle with a fold's speech network and fusion in it."""
    shapes = {"face_embedding": (1, EMBEDDING), "speech_embedding": (1, net.voice.in_features), "presence": (1, 2)}
    outputs = dict.fromkeys(OUTPUTS, (1, 8))
    path = folder / "fusion.fp32.onnx"
    path.write_bytes(to_onnx(Network("fusion", net, dict(shapes), dict(outputs), {})))
    info = ModelInfo(
        inputs=dict(shapes),
        outputs=dict(outputs),
        temperature=summary["temperature"],
        files={"fp32": path},
        published_head=shipped.models["face"].published_head,
        weights=summary["weights"],
        confident=summary["confident"],
    )
    models = {**shipped.models, "speech": fold_bundle.models["speech"], "fusion": info}
    return dataclasses.replace(shipped, models=models)


@dataclasses.dataclass(frozen=True, slots=True)
class FoldPredictions:
    """What one fold's fusers said of its pairs, by label set and method."""

    samples: dict[str, Sample]
    main: dict[str, dict[str, dict[str, F32]]]
    wrong: dict[str, dict[str, dict[str, F32]]]
    noise: dict[str, Any]
    summary: dict[str, Any]
    bundle_id: str


def run_fold(fold: int, recipe: FusionRecipe, shared: SharedInputs, pairs: int, folder: Path) -> FoldPredictions:
    """Train one fold's fusion on the other folds' actors, and ask every fuser about pairs of its own."""
    test_rows, train_rows = np.flatnonzero(shared.folds == fold), np.flatnonzero(shared.folds != fold)
    voices = sides.stack_speech_outputs(
        [shared.clips[row] for row in train_rows], [shared.held_out_outputs[row] for row in train_rows]
    )
    net, _, summary, _ = fusion.fit_fusion(shared.faces, voices, dataclasses.replace(recipe, fold=fold), folder)
    fold_bundle = sides.fold_bundle(fold)
    heads = (sides.calibrated_heads(shared.branches)[0], speech_head(fold_bundle))
    net.set_heads(*heads)
    initial_net = fusion.initial_network(shared.faces, voices, recipe)
    initial_net.set_heads(*heads)
    (folder / "start").mkdir(exist_ok=True)
    engine, untrained = (
        Engine(fused_bundle(shared.shipped, fold_bundle, network.eval(), summary, where), "fp32", "onnx")
        for network, where in ((net, folder), (initial_net, folder / "start"))
    )
    test_voices: ClipOutputs = [shared.held_out_outputs[row] for row in test_rows]
    labels = np.array([shared.clips[row].label for row in test_rows], np.int64)
    predictions: dict[str, Any] = {"samples": {}, "main": {}, "wrong": {}, "noise": {}}
    for head in OUTPUTS:
        sample = draw_sample(engine, head, shared.images, test_voices, labels, pairs=pairs, seed=recipe.seed * FOLDS + fold)
        fusers = {method: engine.fuser(method, head) for method in METHODS}
        predictions["samples"][head] = sample
        predictions["main"][head] = {method: fuse_with_ablations(sample, fuser) for method, fuser in fusers.items()}
        predictions["main"][head][UNTRAINED] = fuse_with_ablations(sample, untrained.fuser("feature", head))
        subset = subsample_pairs(sample)
        predictions["wrong"][head] = fuse_conflicting(subset, fusers["feature"], FRESHNESS)
        predictions["noise"][head] = noise_metrics(engine, subset, fusers["feature"], head, recipe.seed)
    return FoldPredictions(**predictions, summary=summary, bundle_id=fold_bundle.id)


def pooled_metrics(folds: Sequence[FoldPredictions], head: str, method: str) -> dict[str, Any]:
    """Return one method's figures over all folds' pairs together, and how they differ from fold to fold."""
    truth = np.concatenate([fold.samples[head].truth for fold in folds])
    names = folds[0].main[head][method]
    predictions = {name: np.concatenate([fold.main[head][method][name] for fold in folds]) for name in names}
    figures = pair_metrics(predictions, truth)
    by_fold = [pair_metrics(fold.main[head][method], fold.samples[head].truth) for fold in folds]
    better = max(figures["face_alone"]["accuracy"], figures["speech_alone"]["accuracy"])
    better_merged = max(figures[f"{side}_alone_merged_calm"]["accuracy"] for side in ("face", "speech"))
    return figures | {
        "over_folds": {name: [each[name] for each in by_fold] for name in SPREAD_METRICS},
        "over_the_better_branch": figures["accuracy"] - better,
        "over_the_better_branch_merged_calm": figures["merged_calm"]["accuracy"] - better_merged,
        "one_missing": {
            "speech": figures["speech_missing"]["accuracy"] - figures["face_alone"]["accuracy"],
            "face": figures["face_missing"]["accuracy"] - figures["speech_alone"]["accuracy"],
        },
    }


def pooled_conflict(folds: Sequence[FoldPredictions], head: str) -> dict[str, Any]:
    """Return the figures with one side of another class, over all folds' pairs together."""
    first = folds[0].wrong[head]
    wrong = {
        side: {fresh: np.concatenate([fold.wrong[head][side][fresh] for fold in folds]) for fresh in first[side]}
        for side in first
    }
    counts = [len(fold.wrong[head]["face"][f"{FRESHNESS[0]:g}"]) for fold in folds]
    truth = np.concatenate([fold.samples[head].truth[:count] for fold, count in zip(folds, counts, strict=True)])
    alone = {
        name: np.concatenate([fold.main[head]["feature"][name][:count] for fold, count in zip(folds, counts, strict=True)])
        for name in ("face_alone", "speech_alone")
    }
    return conflict_metrics(wrong, alone, dataclasses.replace(folds[0].samples[head], truth=truth))


def pooled_noise(folds: Sequence[FoldPredictions], head: str) -> dict[str, Any]:
    parts = [fold.noise[head] for fold in folds]
    return {side: {key: float(np.mean([part[side][key] for part in parts])) for key in parts[0][side]} for side in parts[0]}


def pooled_confident(folds: Sequence[FoldPredictions], head: str) -> dict[str, Any]:
    """Hold every fold's own threshold, drawn without its actors, against its pairs; over all pairs together."""
    parts = [
        (
            threshold_metrics(fold.main[head]["feature"]["fused"], fold.samples[head].truth, fold.summary["confident"][head]),
            fold,
        )
        for fold in folds
    ]
    by_fold = [part for part, _ in parts if part is not None]
    above = [part["coverage"] for part in by_fold]
    right = [part["right"] or 0.0 for part in by_fold]
    return {
        "stated": by_fold[0]["stated"],
        "right": float(np.average(right, weights=above)),
        "coverage": float(np.mean(above)),
        "by_fold": by_fold,
    }


def report(folds: Sequence[FoldPredictions], shared: SharedInputs, recipe: FusionRecipe, pairs: int) -> dict[str, Any]:
    return {
        "what": "feature against decision fusion over five folds, every actor tested once by networks that never heard them",
        "pairing": PAIRING,
        "easier": PAIRING_CAVEAT,
        "protocol": f"a fold's fusion is trained and calibrated on the other folds' actors, each read by the network that "
        f"never heard them, and on pictures that trained nothing; tested on {SPLIT} pictures and the fold's four actors",
        "command": "make fusion-folds",
        "commit": commit(),
        "seed": recipe.seed,
        "pairs_a_fold": pairs,
        "recipe": {**dataclasses.asdict(recipe), "fold": list(range(FOLDS))},
        "bundle": shared.shipped.id,
        "speech_bundles": [fold.bundle_id for fold in folds],
        "split": SPLIT,
        "weights": {head: [fold.summary["weights"][head] for fold in folds] for head in OUTPUTS},
        "temperature": [fold.summary["temperature"] for fold in folds],
        "by_label_set": {
            head: {
                "methods": {method: pooled_metrics(folds, head, method) for method in (*METHODS, UNTRAINED)},
                "wrong": pooled_conflict(folds, head),
                "noise": pooled_noise(folds, head),
                "confident": pooled_confident(folds, head),
            }
            for head in OUTPUTS
        },
    }


def read_shared_inputs(data_dir: Path, cache: Path) -> SharedInputs:
    """Read what all folds share; raise ExportError where the shipped bundle was not made from the committed face network."""
    shipped = bundles.load(bundles.DEFAULT, ("face", "speech"))
    branches = sides.load_branches(sides.CHECKPOINTS)
    if shipped.training["checkpoints"]["face"] != branches.face_card["sha256"]:
        raise ExportError("the shipped bundle holds another face network than train/checkpoints; export it again")
    load_network(sides.CHECKPOINTS, "face", PreprocessSpec())
    data = load_faces(data_dir, cache)
    csv, votes = find_fer2013(data_dir)
    clips = list_ravdess(find_ravdess(data_dir))
    folds = np.array([sides.fold_of(clip.actor) for clip in clips])
    return SharedInputs(
        shipped,
        branches,
        sides.predict_faces(branches, data, data.split.validation),
        read_face_images(csv, votes, SPLIT),
        clips,
        folds,
        sides.predict_held_out(clips),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.fusion_folds", description=__doc__)
    for name in ("--config", "--data", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/train"), help="where parsed pictures are cached")
    parser.add_argument("--pairs", type=int, default=2000, help="a fold (2000)")
    args = parser.parse_args(arguments)
    try:
        recipe = read_recipe(args.config, "fusion")
        torch.set_num_threads(recipe.threads)
        torch.use_deterministic_algorithms(mode=True)
        shared = read_shared_inputs(args.data, args.out / "cache")
        folds = []
        for fold in range(FOLDS):
            with tempfile.TemporaryDirectory() as folder:
                folds.append(run_fold(fold, recipe, shared, args.pairs, Path(folder)))
        document = report(folds, shared, recipe, args.pairs)
        units = args.data / "ravdess_au"
        if units.is_dir():
            read = true_pairs.read_action_units(units, shared.clips)
            document["true_pairs"] = true_pairs.compare(
                read, shared.clips, sides.stack_speech_outputs(shared.clips, shared.held_out_outputs), recipe.seed
            )
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    write_json(args.json, document)
    for head in OUTPUTS:
        for method, figures in document["by_label_set"][head]["methods"].items():
            print(f"{head} {method}: accuracy {figures['accuracy']:.4f}, ece {figures['ece']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
