"""Sections of the report on reliability: confidence, missing and conflicting modalities, true pairs."""

from __future__ import annotations

from pathlib import Path

from docs.generate.models import figures
from docs.generate.models.blocks import Block, Figure, Heading, Table, Text
from docs.generate.models.evidence import LABEL_SETS, METHODS, Evidence, methods_of, percent, percentage_points
from moodring.config import FusionConfig
from moodring.fusion import FRESH_SHARE

SIDES = {"face": "face", "speech": "voice"}
FRESHNESS = ("1", "0.5", "0.2")


def calibration(evidence: Evidence, out: Path) -> list[Block]:
    """Return reliability diagrams, the held-out precision of the confidence thresholds, and accuracy over coverage."""
    named = {f"both, {LABEL_SETS[head]}": methods_of(evidence, head)["feature"] for head in LABEL_SETS}
    bins = {name: found["reliability"] for name, found in named.items()}
    face = evidence["face"]["by_label_set"]
    bins |= {f"face, {LABEL_SETS[head]}": face[head]["reliability"] for head in face if "reliability" in face[head]}
    if "reliability" in evidence["speech_folds"]["pooled"]:
        bins["voice, five folds"] = evidence["speech_folds"]["pooled"]["reliability"]
    figures.reliability_diagrams(out / "reliability.png", bins)
    figures.risk_coverage(out / "risk_coverage.png", {name: found["risk_coverage"] for name, found in named.items()})
    rows = []
    for head, name in LABEL_SETS.items():
        found = evidence["fusion_folds"]["by_label_set"][head]["confident"]
        thresholds = [part["threshold"] for part in found["by_fold"]]
        span = f"{min(thresholds):.2f} to {max(thresholds):.2f}"
        rows.append((name, span, percent(found["stated"]), percent(found["right"]), percent(found["coverage"])))
    source = evidence.source("fusion_folds")
    return [
        Heading("Calibration and confidence threshold"),
        Figure("reliability.png", "Reliability diagrams: accuracy over confidence", source),
        Text(
            "A temperature scales the output of each branch and of each fusion method. It is fitted on held-out people so that "
            "the confidence matches the accuracy. The confidence threshold is the lowest one that reaches the target precision "
            "on these people. The table shows precision and coverage on other people, who were used neither for the "
            "temperature nor for the threshold. The [card](card.md) has the threshold of the shipped models."
        ),
        Table(("labels", "threshold, by fold", "target precision", "held-out precision", "coverage"), rows, source),
        Figure("risk_coverage.png", "Accuracy over coverage, most confident pairs first", source),
    ]


def missing_modality(evidence: Evidence) -> list[Block]:
    """Return the accuracy of the fusion with a missing, an ageing, a conflicting and a noisy modality."""
    rows, conflict_rows = [], []
    for head, name in LABEL_SETS.items():
        found, part = methods_of(evidence, head)["feature"], evidence["fusion_folds"]["by_label_set"][head]
        rows += [
            (f"voice, {name}", percent(found["speech_missing"]["accuracy"]), percent(found["face_alone"]["accuracy"])),
            (f"face, {name}", percent(found["face_missing"]["accuracy"]), percent(found["speech_alone"]["accuracy"])),
        ]
        for side, title in SIDES.items():
            conflict, noise = part["wrong"][side], part["noise"][side]
            accuracies = (conflict["right_side_alone"], *(conflict["fused_by_freshness"][key] for key in FRESHNESS))
            cells = map(percent, (*accuracies, noise["refused"], noise["accuracy"]))
            conflict_rows.append((f"{title}, {name}", *cells))
    limit = FusionConfig()
    source = evidence.source("fusion_folds")
    return [
        Heading("Missing, ageing, conflicting and noisy modalities"),
        Text("If a modality is missing, fusion returns the calibrated output of the other branch unchanged."),
        Table(("missing modality", "accuracy, fused", "accuracy, other branch alone"), rows, source),
        Text(
            "For the next table, one modality of each pair shows another class than the label. If both outputs are new, fusion "
            "cannot detect which one is wrong. With its age, the weight of an output falls from 1 to 0: between "
            f"{limit.face_stale_s * FRESH_SHARE:g} s and {limit.face_stale_s:g} s for the face, between "
            f"{limit.speech_stale_s * FRESH_SHARE:g} s and {limit.speech_stale_s:g} s for the voice. The table shows the fused "
            "accuracy for three weights of the conflicting modality. In the last two columns, noise (random pixels or white "
            "noise) replaces this modality. `usable` rejects noise before fusion."
        ),
        Table(
            (
                "conflicting modality",
                "other branch alone",
                *(f"fused, weight {weight}" for weight in FRESHNESS),
                "noise rejected",
                "fused, with noise",
            ),
            conflict_rows,
            source,
        ),
    ]


def true_pairs(evidence: Evidence) -> list[Block]:
    """Return the comparison of pairs from one recording with pairs of different people; empty without the measurement."""
    found = evidence["fusion_folds"].get("true_pairs")
    if found is None:
        return []
    rows = [
        (
            METHODS[rule],
            percent(kinds["true"]["accuracy"]),
            percent(kinds["by_class"]["accuracy"]),
            percentage_points(kinds["true"]["accuracy"] - kinds["by_class"]["accuracy"]),
            percentage_points(kinds["true"]["merged_calm"]["accuracy"] - kinds["by_class"]["merged_calm"]["accuracy"]),
        )
        for rule, kinds in found["rules"].items()
    ]
    together = found["errors_together"]
    return [
        Heading("True pairs and pairs by class"),
        Text(
            "RAVDESS also has videos of its recordings. OpenFace extracted the facial action units of every recording from "
            "them (numbers, no images). A logistic regression on these action units reaches "
            f"{percent(found['face_alone']['accuracy'])} accuracy in seven classes on held-out actors. The fusion rules "
            "combine its output with the voice. In a true pair, face and voice are from the same recording. In a pair by "
            "class, they are from recordings of two actors with the same class."
        ),
        Table(
            ("rule", "true pairs", "pairs by class", "true minus by class, pp", "true minus by class, calm as neutral, pp"),
            rows,
            evidence.source("fusion_folds"),
        ),
        Text(
            f"Both modalities are wrong in {percent(together['true'])} of the true pairs and in "
            f"{percent(together['by_class'])} of the pairs by class. A recording that is difficult for the voice branch tends "
            "to be difficult for the face as well. Pairs by class do not show this dependence."
        ),
    ]
