"""The model card of the shipped bundle, with a list of the fold bundles for evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docs.generate.models import wording
from docs.generate.models.blocks import Block, Heading, Table, Text
from docs.generate.models.evidence import FEATURE_FUSION, LABEL_SETS, PAIRS_ARE_EASIER, Evidence, methods_of, percent, read_json
from moodring.evaluation.pairs import PAIRING
from moodring.inference.bundle import BUNDLE_FILE


def card(evidence: Evidence, shipped: Path, folds: list[Path]) -> list[Block]:
    """Return the card of the bundle in folder `shipped`, with a table of the fold bundles."""
    document = read_json(shipped / BUNDLE_FILE)
    return [
        Heading(f"Model card: {document['name']} ({document['id']})", 1),
        *_purpose(),
        *_results(evidence, document),
        *_networks(document),
        *_licences(document),
        *_retrain(),
        *_fold_bundles(evidence, folds),
    ]


def _purpose() -> list[Block]:
    return [
        Heading("Intended use"),
        Text(
            "",
            (
                "**Use it for** research, teaching, art and accessibility, with people who know of it and agree, on their own "
                "machine. No image and no audio leaves this machine.",
                "**Do not use it for** hiring, grading, policing, diagnosing or managing people, or for any decision about a "
                "person. In the European Union, Article 5(1)(f) of Regulation (EU) 2024/1689 prohibits inferring emotions at "
                "the workplace and in education, except for medical or safety reasons. Article 50(3) requires that people "
                "exposed to such a system are informed.",
                "It outputs an **expression**, one of eight labels. It does not know what a person feels.",
            ),
        ),
    ]


def _results(evidence: Evidence, document: dict[str, Any]) -> list[Block]:
    rows = [
        (f"face, {LABEL_SETS[head]}", percent(part["accuracy"]), percent(part["ece"]))
        for head, part in evidence["face"]["by_label_set"].items()
    ]
    pooled, confident = evidence["speech_folds"]["pooled"], document["models"]["fusion"]["confident"]["ferplus"]
    rows.append(("voice, five folds", percent(pooled["accuracy"]), percent(pooled["ece"])))
    for head, name in LABEL_SETS.items():
        fused = methods_of(evidence, head)["feature"]
        rows.append((f"both, {name}, {PAIRING}", percent(fused["accuracy"]), percent(fused["ece"])))
    return [
        Heading("Results"),
        Text(
            "All results are measured on held-out images and speakers: the tested network was not trained on them. The pairs "
            f"in the last rows join a face and a voice of different people. {PAIRS_ARE_EASIER}"
        ),
        Text(
            "The shipped voice network was trained on every actor. The results of voice and pairs are from five networks with "
            "the same recipe, each trained without four actors. Expect these results from the shipped network. [All "
            "results](README.md)."
        ),
        Table(("what", "accuracy", "ECE"), rows, evidence.source("face", "speech_folds", "fusion_folds")),
        Text(
            f"Use events whose `confidence` is at least **{confident['threshold']:.2f}** and ignore the others. On pairs that "
            f"trained neither branch, this threshold gives {percent(confident['right'])} precision and "
            f"{percent(confident['coverage'])} coverage."
        ),
    ]


def _networks(document: dict[str, Any]) -> list[Block]:
    rows = [
        (kind, precision, f"`{file['path']}`", f"`{file['sha256'][:16]}`")
        for kind, model in document["models"].items()
        for precision, file in model["files"].items()
    ]
    return [
        Heading("Networks"),
        Table(("network", "precision", "file", "sha256"), rows),
        Text(
            "",
            (
                "**Face**: a residual network on grey crops of 48 x 48 pixels. It has one head for the official labels of "
                "FER2013 and one for FER+. The daemon publishes the output of the second.",
                "**Voice**: a residual network on the cepstra of three seconds.",
                f"**Fusion** {FEATURE_FUSION}",
            ),
        ),
        Text("The runtime verifies the hash of every file before it runs the network."),
    ]


def _licences(document: dict[str, Any]) -> list[Block]:
    rows = [(entry["name"], wording.title(entry["part"]), entry["licence"]) for entry in document["training"]["data"]]
    return [
        Heading("Data and licences"),
        Table(("data", "part used", "licence"), rows),
        Text(
            "",
            (
                "**Not for commercial use.** RAVDESS is under CC BY-NC-SA 4.0. Whether weights are an adaptation of their "
                "training data is not settled. The weights are therefore offered under the terms of RAVDESS: name the source, "
                "no commercial use, share alike. The authors of RAVDESS sell commercial licences.",
                "FER2013 was released for research. Its images come from the web, and their owners were not asked.",
                "The code is under the Apache License 2.0, also with other weights. If you train on data that you may use, the "
                "limits that come from the data above no longer apply.",
                "This repository contains weights, counts and figures, but no image and no audio of the data sets.",
            ),
        ),
    ]


def _retrain() -> list[Block]:
    return [
        Heading("Train on your own data"),
        Text(
            "Arrange your recordings as [the data page](../data.md) describes, and check them with `moodring data verify DIR`. "
            "`make models DATA=DIR` then trains, exports, evaluates and writes these pages. `make docs` writes the pages only. "
            "Keep all recordings of a person in one part of every split."
        ),
    ]


def _fold_bundles(evidence: Evidence, folds: list[Path]) -> list[Block]:
    found = evidence["speech_folds"]
    rows = [
        (
            path.name,
            f"`{read_json(path / BUNDLE_FILE)['id']}`",
            ", ".join(map(str, found["splits"][index]["actors"]["test"])),
            percent(found["over_folds"]["accuracy"]["by_fold"][index]),
        )
        for index, path in enumerate(folds)
    ]
    return [
        Heading("Bundles of the folds"),
        Text(
            "Each of these bundles contains a speech network only, trained without the four actors in its row. With them, "
            "every actor can be tested by a network that was trained without this actor. They are for evaluation and have the "
            "same licences."
        ),
        Table(("bundle", "id", "held-out actors", "accuracy on them"), rows, evidence.source("speech_folds")),
    ]
