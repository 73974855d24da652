"""usage: python -m benchmarks.experiments.folds --config FILE --data DIR --out DIR --bundles DIR --json FILE ...

Train the five folds of the speech model (or one of them), calibrate and export each, evaluate each on its own unheard actors
with `moodring evaluate speech`, and pool what they said. The model that ships is trained on everyone last, and calibrated by
them: OUT/shipped. `--fold K` only trains that fold, several of which can run at once; `--trained` begins where they end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.experiments.cross_validation import (
    calibrate_folds,
    calibrate_shipped,
    fold_folder,
    split_hash,
    train_folds,
    train_mixed,
    train_shipped,
)
from moodring import cli
from moodring.errors import ExportError, MoodringError
from moodring.evaluation.data.readers import list_ravdess, read_sound
from moodring.evaluation.metrics import classification_metrics, reliability
from moodring.evaluation.provenance import commit
from moodring.export.networks import load_network
from moodring.export.quantization.data import QuantizationData
from moodring.export.quantization.quantize import agreement, quantize_closest
from moodring.export.to_onnx import to_onnx
from moodring.export.verify import verify
from moodring.export.write import ModelVariants, describe, write_bundle
from moodring.features.spec import PreprocessSpec
from moodring.labels import CLASSES, LABELS
from moodring.process import INTERRUPTED
from moodring.train.data.splits import FOLDS, fold_actors
from moodring.train.data.voices import clip_windows, find_ravdess
from moodring.train.recipe import read_parent_recipe, read_recipe
from moodring.train.run_folder import mean_and_deviation, read_card, write_json

CALIBRATION_CLIPS = 64
NOISE_DB = "20,10,5,0,-5"
REPORTED_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "ece")


def export_fold(checkpoint: Path, bundle: Path, data_dir: Path) -> dict[str, Any]:
    """Write a bundle of the fold's speech network alone, float32 and int8; return how well the two agree.

    Quantisation is calibrated, and both are compared, on recordings of the fold's training actors.
    """
    spec = PreprocessSpec()
    network = load_network(checkpoint, "speech", spec)
    clips = [clip for clip in list_ravdess(find_ravdess(data_dir)) if clip.actor in network.card["actors"]["train"]]
    rows = np.linspace(0, len(clips) - 1, 2 * CALIBRATION_CLIPS).astype(int)
    pieces = [clip_windows(read_sound(clips[row].path), spec.speech) for row in rows]
    calibration_windows, comparison_windows = (
        [{"window": window[None]} for piece in pieces[start::2] for window in piece] for start in (0, 1)
    )
    verified = verify(network, to_onnx(network), comparison_windows)
    labels = np.zeros(len(comparison_windows), np.int64)  # the nearest to float32 is sought, whatever is right
    int8 = quantize_closest(verified.onnx, QuantizationData(calibration_windows, comparison_windows, labels)).onnx
    variants = ModelVariants({"speech": {"fp32": verified.onnx, "int8": int8}})
    write_bundle(bundle, describe({"speech": network}, variants, spec, bundle.name), variants)
    return agreement(verified.onnx, int8, comparison_windows)


def evaluate_fold(fold: int, bundle: Path, data_dir: Path, out: Path, disturbed: bool) -> dict[str, Any]:
    """Run `moodring evaluate` as a user would; return its figures by name: fp32, int8, stream and what is disturbed."""
    ravdess = ["--ravdess", str(find_ravdess(data_dir)), "--actors", ",".join(map(str, fold_actors(fold)))]
    noise_arguments = ["--noise", str(data_dir / "noise"), "--snr", NOISE_DB] if disturbed else []
    evaluations = {}
    for name, arguments in (
        ("fp32", ["speech", "--clips", *noise_arguments]),
        ("int8", ["speech", "--clips", "--precision", "int8"]),
        ("stream", ["stream"]),
        *((("robustness", ["speech", "--robustness"]), ("tess", ["speech"])) if disturbed else ()),
    ):
        if name == "tess" and not (data_dir / "tess").is_dir():
            continue
        corpus_arguments = ["--tess", str(data_dir / "tess")] if name == "tess" else ravdess
        path = out / f"fold{fold}.{name}.json"
        code = cli.main(
            ["evaluate", *arguments[:1], "--bundle", str(bundle), *corpus_arguments, "--json", str(path), *arguments[1:]]
        )
        if code:
            raise ExportError(f"evaluating fold {fold} ended with code {code}")
        evaluations[name] = json.loads(path.read_text(encoding="utf-8"))
    return evaluations


def pooled_metrics(evaluations: list[dict[str, Any]], data_dir: Path) -> dict[str, Any]:
    """Return the figures over all folds' clips together, from the probabilities that each wrote of its own."""
    labels = {clip.path.stem: clip.label for clip in list_ravdess(find_ravdess(data_dir))}
    clips = {name: row for evaluation in evaluations for name, row in evaluation["clips"].items()}
    if sum(len(evaluation["clips"]) for evaluation in evaluations) != len(clips):
        raise ExportError("a clip was tested in two folds")
    probabilities, truth = np.array(list(clips.values())), np.array([labels[name] for name in clips])
    return classification_metrics(probabilities, truth) | {"reliability": reliability(probabilities, truth)}


def label_agreement(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> float:
    """Return on which share of the clips of all folds two evaluations of each give the same label."""
    same = [
        int(np.argmax(row)) == int(np.argmax(other["clips"][name]))
        for one, other in zip(some, others, strict=True)
        for name, row in one["clips"].items()
    ]
    return float(np.mean(same))


def confusion_rates(matrix: list[list[int]], pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return how often each of a pair of classes is taken for the other, as shares of its own clips."""
    result = {}
    for one, other in pairs:
        for true, predicted in ((one, other), (other, one)):
            row = matrix[LABELS.index(true)]
            result[f"{true} taken for {predicted}"] = row[LABELS.index(predicted)] / max(1, sum(row))
    return result


def report(
    folds: list[dict[str, Any]],
    agreements: list[dict[str, Any]],
    cards: list[dict[str, Any]],
    mixed: dict[str, Any],
    data_dir: Path,
) -> dict[str, Any]:
    """Join what the folds said into the one page of held-out figures; `mixed` is the card of the split that mixes actors."""
    fp32 = [fold["fp32"] for fold in folds]
    overall = pooled_metrics(fp32, data_dir)
    document = {
        "what": "speech, five folds over twenty actors, every actor tested once by a model that never heard them",
        "protocol": "cross-validated: 16 actors train, 4 are tested, nothing is chosen; a fold's temperature is fitted on the "
        "other folds' unheard actors",
        "commit": commit(),
        "command": "make folds",
        "recipe": {**cards[0]["recipe"], "fold": list(range(FOLDS))},
        "splits": [{"fold": k, "actors": card["actors"], "sha256": split_hash(card)} for k, card in enumerate(cards)],
        "bundles": [evaluation["bundle"] for evaluation in fp32],
        "temperatures": [card["temperature"]["logits"] for card in cards],
        "pooled": overall,
        "over_folds": {name: _over_folds([evaluation[name] for evaluation in fp32]) for name in REPORTED_METRICS},
        "majority_baseline": max(overall["per_class"][label]["n"] for label in LABELS) / overall["n"],
        "random_split_that_mixes_actors": {"inflated": True, "network": mixed["network"], **mixed["test"]},
        "confused": confusion_rates(overall["confusion"], (("sad", "fear"), ("neutral", "calm"))),
        "int8": {
            "pooled": pooled_metrics([fold["int8"] for fold in folds], data_dir),
            "agreement_on_training_actors": agreements,
            "same_label_on_unseen_actors": label_agreement(fp32, [fold["int8"] for fold in folds]),
        },
        "stream": {
            "clips": sum(f["stream"]["n"] + f["stream"]["no_answer"] for f in folds),
            "no_answer": sum(f["stream"]["no_answer"] for f in folds),
            "accuracy": float(np.average([f["stream"]["accuracy"] for f in folds], weights=[f["stream"]["n"] for f in folds])),
            "by_fold": [f["stream"]["accuracy"] for f in folds],
        },
        "usable": {name: _usable_share(fp32, name) for name in fp32[0]["usable"]},
    }
    if all("by_noise" in evaluation for evaluation in fp32):
        document["by_noise"] = {
            name: {snr: _accuracy([e["by_noise"][name][snr] for e in fp32]) for snr in by_snr}
            for name, by_snr in fp32[0]["by_noise"].items()
        }
    if all("robustness" in fold for fold in folds):
        parts = [fold["robustness"] for fold in folds]
        document["by_disturbance"] = {
            name: {
                "unit": kind["unit"],
                "by_strength": {
                    strength: {
                        "voice": _mean([part["by_disturbance"][name]["by_strength"][strength]["voice"] for part in parts])
                    }
                    for strength in kind["by_strength"]
                },
            }
            for name, kind in parts[0]["by_disturbance"].items()
        }
    if all("tess" in fold for fold in folds):
        document["tess"] = {
            "what": "the five networks over TESS: seven classes of eight, two speakers, both women",
            "n": folds[0]["tess"]["n"],
            "accuracy": _over_folds([fold["tess"]["accuracy"] for fold in folds]),
            "by_speaker": {
                name: _mean([fold["tess"]["by_speaker"][name] for fold in folds]) for name in folds[0]["tess"]["by_speaker"]
            },
        }
    return document


def _over_folds(values: list[float]) -> dict[str, Any]:
    return {"by_fold": values, **mean_and_deviation(values)}


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _usable_share(evaluations: list[dict[str, Any]], name: str) -> dict[str, Any]:
    parts = [evaluation["usable"][name] for evaluation in evaluations]
    windows = [part["windows"] for part in parts]
    return {"windows": sum(windows), "usable": float(np.average([part["usable"] for part in parts], weights=windows))}


def _accuracy(parts: list[dict[str, Any]]) -> float:
    return float(np.average([part["accuracy"] for part in parts], weights=[part["n"] for part in parts]))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.folds", description=__doc__)
    for name in ("--config", "--data", "--out", "--bundles", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="train this one and stop")
    parser.add_argument("--trained", action="store_true", help="train nothing: every fold is done")
    parser.add_argument(
        "--disturbed", action="store_true", help=f"evaluate in noise ({NOISE_DB} dB), disturbed, and on TESS as well"
    )
    args = parser.parse_args(arguments)
    recipe = read_recipe(args.config, "speech")
    first_recipe = read_parent_recipe(recipe, args.config)
    torch.set_num_threads(recipe.threads if args.fold is None else 1)
    torch.use_deterministic_algorithms(mode=True)
    try:
        folds = range(FOLDS) if args.fold is None else (args.fold,)
        if not args.trained and not train_folds(recipe, first_recipe, args.data, args.out, folds):
            return INTERRUPTED
        if args.fold is not None:
            return 0
        if not args.trained and not train_mixed(first_recipe or recipe, args.data, args.out):
            return INTERRUPTED
        if not args.trained and not train_shipped(recipe, first_recipe, args.data, args.out):
            return INTERRUPTED
        calibrate_shipped(calibrate_folds(args.data, args.out), args.out)
        cards = [read_card(fold_folder(args.out, fold), "speech") for fold in range(FOLDS)]
        bundles = [fold_folder(args.bundles, fold) for fold in range(FOLDS)]
        agreements = [export_fold(fold_folder(args.out, k), bundle, args.data) for k, bundle in enumerate(bundles)]
        evaluate = partial(evaluate_fold, data_dir=args.data, out=args.out, disturbed=args.disturbed)
        with ProcessPoolExecutor(recipe.threads, multiprocessing.get_context("spawn")) as pool:
            evaluations = list(pool.map(evaluate, range(FOLDS), bundles))
        document = report(evaluations, agreements, cards, read_card(args.out / "mixed", "speech"), args.data)
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    write_json(args.json, document)
    print(f"pooled over {CLASSES} classes: accuracy {document['pooled']['accuracy']:.4f}, ece {document['pooled']['ece']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
