"""usage: python -m benchmarks.experiments.fusion_folds --config FILE --data DIR --json FILE ...

Feature and decision fusion under one protocol. Trains five fusion networks, each without the four actors of a fold, tests every
fuser of the runtime on pairs of those actors' clips with held-out images, and pools the figures. Needs the committed
checkpoints, the shipped bundle and the speech bundles of the folds; takes five minutes on one core.
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
from onnx import numpy_helper
from torch import Tensor

from benchmarks.experiments import true_pairs
from benchmarks.experiments.fusion_pooling import (
    FoldPredictions,
    pooled_confident,
    pooled_conflict,
    pooled_metrics,
    pooled_noise,
)
from moodring.errors import ExportError, MoodringError
from moodring.evaluation.data.readers import RavdessClip, list_ravdess
from moodring.evaluation.engine import Engine
from moodring.evaluation.fusion import (
    FRESHNESS,
    ClipOutputs,
    FaceImages,
    draw_sample,
    noise_metrics,
    read_face_images,
)
from moodring.evaluation.pairs import PAIRING, PAIRING_CAVEAT, fuse_conflicting, fuse_with_ablations, subsample_pairs
from moodring.evaluation.provenance import commit
from moodring.export.held_out import SPLIT
from moodring.export.networks import Network, fusion_interface, load_network
from moodring.export.quantization.data import I64
from moodring.export.to_onnx import to_onnx
from moodring.features.spec import PreprocessSpec
from moodring.fusion import METHODS
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle, ModelInfo
from moodring.train import fusion
from moodring.train.data import branch_outputs
from moodring.train.data.faces import find_fer2013, load_faces
from moodring.train.data.splits import FOLDS
from moodring.train.data.voices import find_ravdess
from moodring.train.models.fusion import OUTPUTS, FusionNet
from moodring.train.recipe import FusionRecipe, read_recipe
from moodring.train.run_folder import write_json
from moodring.types import BranchOutput

UNTRAINED = "product, untrained"
PAIRS_PER_FOLD = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class SharedInputs:
    """Data that all folds share: the shipped bundle, the branches, their outputs, and the clips.

    `folds` is the fold whose held-out actor each clip belongs to, `held_out_outputs` the outputs for each clip's windows of the
    speech network that was trained without its actor.
    """

    shipped: Bundle
    branches: branch_outputs.Branches
    faces: branch_outputs.FaceOutputs
    images: FaceImages
    clips: tuple[RavdessClip, ...]
    folds: I64
    held_out_outputs: list[list[BranchOutput]]


def speech_head(bundle: Bundle) -> tuple[Tensor, Tensor]:
    """Return the weight [8, 128] and bias [8] of a speech bundle's logits, divided by its temperature.

    Raises ExportError if the ONNX file does not contain them.
    """
    info = bundle.models["speech"]
    graph = onnx.load(str(info.files["fp32"])).graph
    found = {
        part.name: numpy_helper.to_array(part) for part in graph.initializer if part.name in ("logits.weight", "logits.bias")
    }
    if len(found) != 2:
        raise ExportError(f"{info.files['fp32']}: has no logits.weight and logits.bias; export it again")
    weight, bias = (
        torch.from_numpy(found[f"logits.{name}"].copy()) / info.temperature["logits"] for name in ("weight", "bias")
    )
    return weight, bias


def fused_bundle(shipped: Bundle, fold_bundle: Bundle, net: FusionNet, summary: dict[str, Any], folder: Path) -> Bundle:
    """Return the shipped bundle with the speech network of a fold and a fusion network, which is written to `folder`."""
    inputs, outputs = fusion_interface(net)
    path = folder / "fusion.fp32.onnx"
    path.write_bytes(to_onnx(Network("fusion", net, inputs, outputs, {})))
    info = ModelInfo(
        inputs=inputs,
        outputs=outputs,
        temperature=summary["temperature"],
        files={"fp32": path},
        published_head=shipped.models["face"].published_head,
        weights=summary["weights"],
        confident=summary["confident"],
    )
    models = {**shipped.models, "speech": fold_bundle.models["speech"], "fusion": info}
    return dataclasses.replace(shipped, models=models)


def run_fold(fold: int, recipe: FusionRecipe, shared: SharedInputs, pairs: int, folder: Path) -> FoldPredictions:
    """Train the fusion network of a fold on the other folds' actors; run every fuser on pairs of the fold's own actors."""
    test_rows, train_rows = np.flatnonzero(shared.folds == fold), np.flatnonzero(shared.folds != fold)
    voices = branch_outputs.stack_speech_outputs(
        [shared.clips[row] for row in train_rows], [shared.held_out_outputs[row] for row in train_rows]
    )
    net, _, summary, _ = fusion.fit_fusion(shared.faces, voices, dataclasses.replace(recipe, fold=fold), folder)
    fold_bundle = branch_outputs.fold_bundle(fold)
    heads = (branch_outputs.calibrated_heads(shared.branches)[0], speech_head(fold_bundle))
    net.set_heads(*heads)
    initial_net = fusion.initial_network(shared.faces, voices, recipe)
    initial_net.set_heads(*heads)
    (folder / "start").mkdir(exist_ok=True)
    engine, untrained = (
        Engine(fused_bundle(shared.shipped, fold_bundle, network.eval(), summary, network_folder), "fp32", "onnx")
        for network, network_folder in ((net, folder), (initial_net, folder / "start"))
    )
    test_voices: ClipOutputs = [shared.held_out_outputs[row] for row in test_rows]
    labels = np.array([shared.clips[row].label for row in test_rows], np.int64)
    predictions: dict[str, Any] = {"samples": {}, "main": {}, "conflicting": {}, "noise": {}}
    for head in OUTPUTS:
        sample = draw_sample(engine, head, shared.images, test_voices, labels, pairs=pairs, seed=recipe.seed * FOLDS + fold)
        fusers = {method: engine.fuser(method, head) for method in METHODS}
        predictions["samples"][head] = sample
        predictions["main"][head] = {method: fuse_with_ablations(sample, fuser) for method, fuser in fusers.items()}
        predictions["main"][head][UNTRAINED] = fuse_with_ablations(sample, untrained.fuser("feature", head))
        subset = subsample_pairs(sample)
        predictions["conflicting"][head] = fuse_conflicting(subset, fusers["feature"], FRESHNESS)
        predictions["noise"][head] = noise_metrics(engine, subset, fusers["feature"], head, recipe.seed)
    return FoldPredictions(**predictions, summary=summary, bundle_id=fold_bundle.id)


def report(folds: Sequence[FoldPredictions], shared: SharedInputs, recipe: FusionRecipe, pairs: int) -> dict[str, Any]:
    """Return the JSON document of all figures."""
    return {
        "what": "feature and decision fusion, five folds; every actor is tested once by networks trained without that actor",
        "pairing": PAIRING,
        "easier": PAIRING_CAVEAT,
        "protocol": "the fusion network of a fold is trained and calibrated on the other folds' actors, each with the speech "
        "network trained without that actor, and on images that trained no network; it is tested on "
        f"{SPLIT} images and the four actors of the fold",
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
    """Read the data that all folds share.

    Raises ExportError if the shipped bundle was not made from the committed face network, or if that network was trained with
    other preprocessing.
    """
    shipped = bundles.load(bundles.DEFAULT, ("face", "speech"))
    branches = branch_outputs.load_branches(branch_outputs.CHECKPOINTS)
    if shipped.training["checkpoints"]["face"] != branches.face_card["sha256"]:
        raise ExportError("the shipped bundle has another face network than train/checkpoints; export it again")
    load_network(branch_outputs.CHECKPOINTS, "face", PreprocessSpec())
    data = load_faces(data_dir, cache)
    csv, votes = find_fer2013(data_dir)
    clips = list_ravdess(find_ravdess(data_dir))
    folds = np.array([branch_outputs.fold_of(clip.actor) for clip in clips])
    return SharedInputs(
        shipped,
        branches,
        branch_outputs.predict_faces(branches, data, data.split.validation),
        read_face_images(csv, votes, SPLIT),
        clips,
        folds,
        branch_outputs.predict_held_out(clips),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.fusion_folds", description=__doc__)
    for name in ("--config", "--data", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path("build/train"), help="folder for the cache of parsed images (build/train)"
    )
    parser.add_argument("--pairs", type=int, default=PAIRS_PER_FOLD, help=f"pairs per fold ({PAIRS_PER_FOLD})")
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
            action_units = true_pairs.read_action_units(units, shared.clips)
            document["true_pairs"] = true_pairs.compare(
                action_units,
                shared.clips,
                branch_outputs.stack_speech_outputs(shared.clips, shared.held_out_outputs),
                recipe.seed,
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
