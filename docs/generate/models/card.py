"""The model card: of the shipped bundle, and of the five that exist to be evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docs.generate.models.blocks import Block, Heading, Table, Text
from docs.generate.models.evidence import LABEL_SETS, Evidence, methods_of, percent
from moodring.evaluation.pairs import PAIRING, PAIRING_CAVEAT


def card(evidence: Evidence, shipped: Path, folds: list[Path]) -> list[Block]:
    """Return the card of the shipped bundle, and a shorter one for each fold's."""
    document = _document(shipped)
    return [
        Heading(f"Model card: {document['name']} ({document['id']})", 1),
        *_purpose(),
        *_figures(evidence, document),
        *_networks(document),
        *_licences(document),
        *_retrain(),
        Heading("The bundles of the folds"),
        Text(
            "They hold a speech network alone and exist so that every actor can be tested by one that never heard "
            "them. They are for "
            "evaluation, under the same licences."
        ),
        Table(
            ("bundle", "id", "actors never heard", "accuracy on them"),
            [
                (path.name, f"`{_document(path)['id']}`", _actors(evidence, index), _accuracy(evidence, index))
                for index, path in enumerate(folds)
            ],
            evidence.source("speech_folds"),
        ),
    ]


def _document(bundle: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    return document


def _actors(evidence: Evidence, fold: int) -> str:
    return ", ".join(map(str, evidence["speech_folds"]["splits"][fold]["actors"]["test"]))


def _accuracy(evidence: Evidence, fold: int) -> str:
    return percent(evidence["speech_folds"]["over_folds"]["accuracy"]["by_fold"][fold])


def _purpose() -> list[Block]:
    return [
        Heading("What it is for"),
        Text(
            "",
            (
                "**For**: research, teaching, art and accessibility, with people who know of it and agree; on their "
                "own machine, where "
                "no picture and no sound leaves it.",
                "**Not for**: hiring, grading, policing, diagnosing or managing people, nor any decision about a "
                "person. In the European "
                "Union Article 5(1)(f) of Regulation (EU) 2024/1689 prohibits inferring emotions at the workplace and "
                "in education, "
                "and Article 50(3) requires that people exposed to it are told.",
                "It names an **expression**, as one of eight words. It does not know what anybody feels.",
            ),
        ),
    ]


def _figures(evidence: Evidence, document: dict[str, Any]) -> list[Block]:
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
        Heading("How good it is"),
        Text(
            f"On people that the network under test never saw or heard; of the pairs, {PAIRING_CAVEAT}. The voice that ships was "
            "trained on every actor, by the recipe of five networks that each left four of them out: the figures of voice and "
            "pairs are theirs, and what to expect of it. [The whole report](README.md)."
        ),
        Table(
            ("what", "accuracy", "ECE"),
            rows,
            evidence.source("face", "speech_folds", "fusion_folds"),
        ),
        Text(
            f"Act on events whose `confidence` is at least **{confident['threshold']:.2f}**, and leave the others alone: of "
            f"pairs that trained neither branch, {percent(confident['coverage'])} are above it, and right in "
            f"{percent(confident['right'])}."
        ),
    ]


def _networks(document: dict[str, Any]) -> list[Block]:
    rows = []
    for kind, model in document["models"].items():
        for precision, file in model["files"].items():
            rows.append((kind, precision, f"`{file['path']}`", f"`{file['sha256'][:16]}`"))
    return [
        Heading("What is in it"),
        Table(("network", "precision", "file", "sha256"), rows),
        Text(
            "Face: a residual network over grey crops of 48 pixels with two heads, FER2013's labels and FER+'s; the "
            "daemon publishes the "
            "second. Voice: a residual network over three seconds of cepstra. Fusion: both embeddings read by the "
            "branches' heads, "
            "multiplied, each side as far as it is trusted. Every file is verified by its hash before it runs."
        ),
    ]


def _licences(document: dict[str, Any]) -> list[Block]:
    rows = [(entry["name"], entry["part"], entry["licence"]) for entry in document["training"]["data"]]
    return [
        Heading("Data and licences"),
        Table(("data", "part used", "licence"), rows),
        Text(
            "",
            (
                "**Not for commercial use.** RAVDESS is CC BY-NC-SA 4.0: whether weights are an adaptation of the data "
                "they were trained "
                "on is not settled, so these are offered on its terms: name the source, no commercial use, share "
                "alike. RAVDESS sells "
                "commercial licences; ask its authors.",
                "FER2013 was released for research; its pictures come from the web, and their owners were not asked.",
                "The code is under the Apache License 2.0, and stays so with other weights: train them on data you may "
                "use and every "
                "limit above that comes from the data is gone.",
                "No picture, sound, or piece of either is in this repository; weights, counts and figures are.",
            ),
        ),
    ]


def _retrain() -> list[Block]:
    return [
        Heading("Train it on your own data"),
        Text(
            "Lay your recordings out as [the data page](../data.md) says, check them with `moodring data verify DIR`, then "
            "`make models DATA=DIR` trains, exports, evaluates and writes these pages again; `make report` writes the "
            "pages alone. "
            "Keep a person's recordings on one side of every split."
        ),
    ]
