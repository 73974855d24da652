"""The report on the models: results, test data and known failures, from the evaluation files alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.generate.models import figures
from docs.generate.models.blocks import Block, Figure, Heading, Table, Text
from docs.generate.models.context import curves, instants_sheet, limits, provenance, references, split_comparison
from docs.generate.models.evidence import (
    FEATURE_FUSION,
    LABEL_SETS,
    METHODS,
    PAIRS_ARE_EASIER,
    Evidence,
    methods_of,
    percent,
    percentage_points,
)
from docs.generate.models.reliance import calibration, missing_modality, true_pairs
from docs.generate.models.robustness import robustness
from moodring.evaluation.pairs import PAIRING
from moodring.labels import LABELS


def report(evidence: Evidence, out: Path) -> list[Block]:
    """Return the blocks of the page and write its charts into `out`."""
    return [
        Heading("Model results", 1),
        *summary(evidence, out),
        *instants_sheet(evidence, out),
        *data(evidence),
        *results(evidence),
        *confusion(evidence, out),
        *fusion_methods(evidence, out),
        *curves(evidence, out),
        *calibration(evidence, out),
        *missing_modality(evidence),
        *true_pairs(evidence),
        *robustness(evidence, out),
        *split_comparison(evidence),
        *references(),
        *limits(evidence),
        *provenance(evidence),
    ]


def summary(evidence: Evidence, out: Path) -> list[Block]:
    """Return the accuracies of face, voice and both, a chart of them, and what to know before using them."""
    header = (
        "labels",
        "face (images)",
        "voice (clips)",
        "pairs: face alone",
        "pairs: voice alone",
        "pairs: both",
        "pairs: both, calm as neutral",
    )
    caption = "Accuracy of face alone, voice alone and both, on pairs by class"
    _draw_summary(evidence, out)
    return [
        Text(
            "moodring classifies the expression of a face, of a voice, or of both: angry, disgust, fear, happy, sad, surprise, "
            "neutral and, for voices, calm. It classifies the expression, not what the person feels. All measurements on this "
            "page are on held-out images and speakers: the tested network was not trained on them."
        ),
        Text(
            "The table shows accuracies. Face images have two label sets: the official labels of FER2013, and the majority of "
            "the FER+ votes on the same images."
        ),
        Table(header, _summary_rows(evidence), evidence.source("face", "speech_folds", "fusion_folds")),
        Figure("summary.png", caption, evidence.source("fusion_folds")),
        _findings(evidence),
    ]


def _summary_rows(evidence: Evidence) -> list[tuple[str, ...]]:
    folds, face = evidence["speech_folds"]["pooled"], evidence["face"]["by_label_set"]
    rows: list[tuple[str, ...]] = []
    for head, name in LABEL_SETS.items():
        fused = methods_of(evidence, head)["feature"]
        rows.append(
            (
                name,
                percent(face[head]["accuracy"]) if head in face else "-",
                percent(folds["accuracy"]),
                percent(fused["face_alone"]["accuracy"]),
                percent(fused["speech_alone"]["accuracy"]),
                f"**{percent(fused['accuracy'])}**",
                percent(fused["merged_calm"]["accuracy"]),
            )
        )
    return rows


def _draw_summary(evidence: Evidence, out: Path) -> None:
    groups = {}
    for head, name in LABEL_SETS.items():
        fused = methods_of(evidence, head)["feature"]
        groups[name] = {
            "face alone": fused["face_alone"]["accuracy"],
            "voice alone": fused["speech_alone"]["accuracy"],
            "both": fused["accuracy"],
        }
    colors = {"face alone": figures.FACE, "voice alone": figures.VOICE, "both": figures.BOTH}
    figures.bar_chart(out / "summary.png", groups, colors, f"eight classes, {PAIRING}")


def _findings(evidence: Evidence) -> Text:
    fused = methods_of(evidence, "ferplus")["feature"]
    recall = {label: fused["per_class"][label]["recall"] for label in LABELS}
    lowest = [f"{label} ({percent(recall[label])})" for label in sorted(LABELS, key=recall.__getitem__)[:3]]
    conflicting = {
        side: percent(part["fused_by_freshness"]["1"])
        for side, part in evidence["fusion_folds"]["by_label_set"]["ferplus"]["wrong"].items()
    }
    return Text(
        "",
        (
            f"**Pairs** join an image of FER2013 and a recording of RAVDESS with the same label ({PAIRING}). No person was "
            f"filmed and recorded at the same time. {PAIRS_ARE_EASIER}",
            "**Test data**: grey face images of 48 x 48 pixels from a web search, and studio recordings of twenty North "
            "American actors. How the results differ with age, skin colour, culture or disability has not been measured.",
            f"**Known failures** (pairs, FER+ labels): the classes with the lowest recall are {', '.join(lowest)}. Conflicting "
            "modalities degrade fusion. If the face shows another class than the label, the fused result is correct in "
            f"{conflicting['face']} of the pairs. If the voice shows another class, it is correct in {conflicting['speech']}.",
            "**Confidence** (pairs, FER+ labels): the expected calibration error (ECE) of the fused confidence is "
            f"{percent(fused['ece'])}.",
            "[The model card](card.md) has the intended use, the licences, and how to train on other data.",
        ),
    )


def data(evidence: Evidence) -> list[Block]:
    """Return the number of test images and clips of each class."""
    face, voices = evidence["face"]["by_label_set"], evidence["speech_folds"]["pooled"]["per_class"]
    heads = [head for head in LABEL_SETS if head in face]
    rows = [(label, *(str(face[head]["per_class"][label]["n"]) for head in heads), str(voices[label]["n"])) for label in LABELS]
    total = ("**all**", *(str(face[head]["n"]) for head in heads), str(evidence["speech_folds"]["pooled"]["n"]))
    header = ("class", *(f"images, {LABEL_SETS[head]}" for head in heads), "voice clips")
    left_out = (
        f" {face['ferplus']['left_out']} images have no FER+ majority label: their votes are tied, or most votes are for "
        "contempt, for unknown or for not a face."
        if "left_out" in face.get("ferplus", {})
        else ""
    )
    return [
        Heading("Table 1: test data"),
        Text(
            f"Images: FER2013 {evidence['face']['split']}, which no training uses. Training images with an identical copy in "
            f"this part were left out of training.{left_out}"
        ),
        Text(
            "Voice clips: RAVDESS speech, twenty actors in five folds. Five networks were trained, each without the four "
            "actors of one fold. Each actor is tested with the network that was trained without this actor. [Data "
            "sources](../data.md)."
        ),
        Table(header, [*rows, total], evidence.source("face", "speech_folds")),
    ]


def metrics_row(name: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a table row: name, number of items, and five metrics in per cent."""
    keys = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "ece")
    return (name, str(metrics["n"]), *(percent(metrics[key]) for key in keys))


def results(evidence: Evidence) -> list[Block]:
    """Return the metrics of face, voice and both."""
    face, folds = evidence["face"], evidence["speech_folds"]["pooled"]
    rows = [metrics_row(f"face, {LABEL_SETS[head]}", part) for head, part in face["by_label_set"].items()]
    if copies := face.get("without_training_copies"):
        name = f"face, official labels, without {copies['copies']} images that FER2013 also has in Training"
        rows.append(metrics_row(name, copies))
    rows.append(metrics_row("voice, five folds", folds))
    for head, name in LABEL_SETS.items():
        fused = methods_of(evidence, head)["feature"]
        rows += [
            metrics_row(f"both, {name}", fused),
            metrics_row(f"both, {name}, calm as neutral", fused["merged_calm"]),
            metrics_row(f"face alone on the same pairs, {name}", fused["face_alone"]),
            metrics_row(f"voice alone on the same pairs, {name}", fused["speech_alone"]),
        ]
    by_fold = [percent(value) for value in methods_of(evidence, "ferplus")["feature"]["over_folds"]["accuracy"]]
    return [
        Heading("Table 2: face, voice and both"),
        Text(
            "Precision, recall and F1 are means over the classes that occur. The face branch has no class calm, but "
            f"{folds['per_class']['calm']['n']} of the {folds['n']} voice clips are calm. The face alone is always wrong on "
            f"pairs with these clips. Face and voice are {PAIRING}. {PAIRS_ARE_EASIER}"
        ),
        Table(
            ("what", "n", "accuracy", "precision", "recall", "F1", "ECE"),
            rows,
            evidence.source("face", "speech_folds", "fusion_folds"),
        ),
        Text(f"Accuracy of both on FER+ labels, by fold: {', '.join(by_fold)}."),
    ]


def fusion_methods(evidence: Evidence, out: Path) -> list[Block]:
    """Return the comparison of the fusion methods, as a table and a chart."""
    groups = {
        name: {METHODS[method]: methods_of(evidence, head)[method]["accuracy"] for method in ("feature", "weighted", "voting")}
        for head, name in LABEL_SETS.items()
    }
    colors = dict(zip(groups[LABEL_SETS["official"]], (figures.BOTH, figures.FACE, figures.VOICE), strict=True))
    figures.bar_chart(out / "fusion_methods.png", groups, colors, f"feature fusion and decision fusion, {PAIRING}")
    gain = {
        head: methods_of(evidence, head)["feature"]["accuracy"] - methods_of(evidence, head)["product, untrained"]["accuracy"]
        for head in LABEL_SETS
    }
    source = evidence.source("fusion_folds")
    return [
        Heading("Table 3 and Figure 3: feature fusion and decision fusion"),
        Text(
            "All methods share one protocol. The fusion of a fold is trained and calibrated on the actors of the other folds "
            "and on images that trained no network. Each clip is processed by the network that was trained without its actor. "
            f"The test uses the four actors of the fold and the images of {evidence['fusion_folds']['split']}. Face and voice "
            f"are {PAIRING}. {PAIRS_ARE_EASIER}"
        ),
        Table(
            ("method", "accuracy", "F1", "accuracy, calm as neutral", "gain over the better branch, pp", "ECE"),
            _method_rows(evidence),
            source,
        ),
        Figure("fusion_methods.png", "Accuracy of feature fusion, weighted average and voting, by label set", source),
        Text(
            f"Feature fusion {FEATURE_FUSION} Decision fusion takes the weighted average of the two outputs or lets them vote. "
            "The key `fusion.method` selects the method."
        ),
        Text(
            "In pairs by class, face and voice are independent within a class. The product is the best rule for independent "
            "inputs. This explains why the average is worse here. It also explains why training adds little to the untrained "
            f"product: {percentage_points(gain['official'])} pp on official labels and {percentage_points(gain['ferplus'])} pp "
            "on FER+ labels. In recordings of one person, face and voice depend on each other; see [true "
            "pairs](#true-pairs-and-pairs-by-class)."
        ),
    ]


def _method_rows(evidence: Evidence) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for head, name in LABEL_SETS.items():
        for method, title in METHODS.items():
            found = methods_of(evidence, head)[method]
            rows.append(
                (
                    f"{title}, {name}",
                    percent(found["accuracy"]),
                    percent(found["macro_f1"]),
                    percent(found["merged_calm"]["accuracy"]),
                    percentage_points(found["over_the_better_branch"]),
                    percent(found["ece"]),
                )
            )
    return rows


def confusion(evidence: Evidence, out: Path) -> list[Block]:
    """Return the confusion matrices as a chart, and recall and precision of each class."""
    fused, voice = methods_of(evidence, "ferplus")["feature"], evidence["speech_folds"]["pooled"]
    face = evidence["face"]["by_label_set"].get("ferplus", evidence["face"])
    matrices = {
        f"face ({LABEL_SETS['ferplus']})": face["confusion"],
        "voice (five folds)": voice["confusion"],
        f"both (pairs, {LABEL_SETS['ferplus']})": fused["confusion"],
    }
    figures.confusion_matrices(out / "confusion.png", matrices)
    rows = [
        (
            label,
            percent(face["per_class"][label]["recall"]) if face["per_class"][label]["n"] else "-",
            percent(voice["per_class"][label]["recall"]),
            percent(fused["per_class"][label]["recall"]),
            percent(fused["per_class"][label]["precision"]),
        )
        for label in LABELS
    ]
    source = evidence.source("face", "speech_folds", "fusion_folds")
    return [
        Heading("Figure 2: confusion matrices"),
        Figure("confusion.png", "Confusion matrices of face, voice and both, in per cent of the true class", source),
        Table(("class", "recall, face", "recall, voice", "recall, both", "precision, both"), rows, source),
    ]
