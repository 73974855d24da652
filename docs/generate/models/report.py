"""The report on the models, from the evaluation files alone: how good, on whom, and where they fail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.generate.models import figures
from docs.generate.models.blocks import Block, Figure, Heading, Table, Text
from docs.generate.models.context import curves, instants_sheet, limits, provenance, references, split_comparison
from docs.generate.models.evidence import LABEL_SETS, METHODS, Evidence, methods_of, percent, percentage_points
from docs.generate.models.reliance import calibration, missing_modality, robustness, true_pairs
from moodring.evaluation.pairs import PAIRING, PAIRING_CAVEAT
from moodring.labels import LABELS


def report(evidence: Evidence, out: Path) -> list[Block]:
    """Return the page's blocks; its pictures are written beside it."""
    sections = (
        summary,
        data,
        results,
        fusion_methods,
        confusion,
        calibration,
        missing_modality,
        true_pairs,
        robustness,
        split_comparison,
        curves,
        instants_sheet,
    )
    blocks: list[Block] = [Heading("How good the models are", 1)]
    for section in sections:
        blocks += section(evidence, out)
    return [*blocks, *references(), *limits(evidence), *provenance(evidence)]


def summary(evidence: Evidence, out: Path) -> list[Block]:
    folds, face = evidence["speech_folds"]["pooled"], evidence["face"]["by_label_set"]
    rows = []
    for head, name in LABEL_SETS.items():
        fused = methods_of(evidence, head)["feature"]
        seen = face.get(head)
        rows.append(
            (
                name,
                percent(seen["accuracy"]) if seen else "-",
                percent(folds["accuracy"]),
                percent(fused["face_alone"]["accuracy"]),
                percent(fused["speech_alone"]["accuracy"]),
                f"**{percent(fused['accuracy'])}**",
                percent(fused["merged_calm"]["accuracy"]),
            )
        )
    fused = methods_of(evidence, "ferplus")["feature"]
    worst = sorted(LABELS, key=lambda label: fused["per_class"][label]["recall"])[:3]
    figures.bar_chart(
        out / "summary.png",
        {
            name: {
                "face alone": methods_of(evidence, head)["feature"]["face_alone"]["accuracy"],
                "voice alone": methods_of(evidence, head)["feature"]["speech_alone"]["accuracy"],
                "both": methods_of(evidence, head)["feature"]["accuracy"],
            }
            for head, name in LABEL_SETS.items()
        },
        {"face alone": figures.FACE, "voice alone": figures.VOICE, "both": figures.BOTH},
        f"eight classes, {PAIRING}",
    )
    lowest_recall = ", ".join(f"{label} ({percent(fused['per_class'][label]['recall'])} found)" for label in worst)
    wrong = evidence["fusion_folds"]["by_label_set"]["ferplus"]["wrong"]
    return [
        Text(
            "moodring names the expression that a face, a voice, or both show: angry, disgust, fear, happy, sad, "
            "surprise, neutral "
            "and, for voices, calm. It says what an expression looks or sounds like, not what anybody feels. Every "
            "figure here is "
            "of people whom the network in question never saw or heard."
        ),
        Table(
            (
                "labels",
                "faces (pictures)",
                "voices (clips)",
                "pairs: face alone",
                "pairs: voice alone",
                "pairs: both",
                "both, calm as neutral",
            ),
            rows,
            evidence.source("face", "speech_folds", "fusion_folds"),
        ),
        Figure(
            "summary.png", "Accuracy of face alone, voice alone and both, on pairs by class", evidence.source("fusion_folds")
        ),
        Text(
            "",
            (
                f"**Pairs** are {PAIRING}: a picture of FER2013 and a recording of RAVDESS that carry the same label. "
                "Nobody was "
                f"filmed and recorded at once: {PAIRING_CAVEAT}.",
                "**On whom**: faces found by web search, grey, 48 pixels a side; twenty North American actors in a "
                "studio. How the "
                "figures differ with age, skin colour, culture or disability has not been measured.",
                f"**Where it fails**: {lowest_recall} are found least often. When one side shows another class than the other, "
                "the fused answer follows the wrong side "
                f"often: with a wrong face it is right in {percent(wrong['face']['fused_by_freshness']['1'])}, with a "
                "wrong voice in "
                f"{percent(wrong['speech']['fused_by_freshness']['1'])}.",
                f"**How sure it is** can be believed to within {percent(fused['ece'])} on average (ECE), on such pairs.",
                "[The model card](card.md) says what the models are for, under which licences, and how to train them "
                "on other data.",
            ),
        ),
    ]


def data(evidence: Evidence, out: Path) -> list[Block]:
    del out
    face, voices = evidence["face"]["by_label_set"], evidence["speech_folds"]["pooled"]["per_class"]
    heads = [head for head in LABEL_SETS if head in face]
    rows = [(label, *(str(face[head]["per_class"][label]["n"]) for head in heads), str(voices[label]["n"])) for label in LABELS]
    total = ("**all**", *(str(face[head]["n"]) for head in heads), str(evidence["speech_folds"]["pooled"]["n"]))
    header = ("class", *(f"pictures, {LABEL_SETS[head]}" for head in heads), "voice clips")
    return [
        Heading("Table 1: the data tested on"),
        Text(
            f"Pictures: FER2013, {evidence['face']['split']}, which no training saw; training pictures whose bytes also "
            "stand there "
            "were left out of it. Voices: RAVDESS speech, twenty actors, each tested by the one of five networks that "
            "never heard "
            "them. [Where the data is to be had](../data.md)."
        ),
        Table(header, [*rows, total], evidence.source("face", "speech_folds")),
    ]


def row_of(name: str, figures_of: Mapping[str, Any]) -> tuple[str, ...]:
    keys = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "ece")
    return (name, str(figures_of["n"]), *(percent(figures_of[key]) for key in keys))


def results(evidence: Evidence, out: Path) -> list[Block]:
    del out
    rows = [row_of(f"face, {LABEL_SETS[head]}", part) for head, part in evidence["face"]["by_label_set"].items()]
    rows += [row_of("voice, five folds", evidence["speech_folds"]["pooled"])]
    for head, name in LABEL_SETS.items():
        fused = methods_of(evidence, head)["feature"]
        rows += [
            row_of(f"both, {name}", fused),
            row_of(f"both, {name}, calm as neutral", fused["merged_calm"]),
            row_of(f"face alone, the same pairs, {name}", fused["face_alone"]),
            row_of(f"voice alone, the same pairs, {name}", fused["speech_alone"]),
        ]
    by_fold = [percent(value) for value in methods_of(evidence, "ferplus")["feature"]["over_folds"]["accuracy"]]
    return [
        Heading("Table 2: face, voice and both"),
        Text(
            f"Precision, recall and F are means over the classes that occur. The pairs are {PAIRING}; {PAIRING_CAVEAT}. The "
            "face never answers "
            "calm, which is one clip in seven or eight: on pairs in eight classes it cannot be right there."
        ),
        Table(
            ("what", "n", "accuracy", "precision", "recall", "F", "ECE"),
            rows,
            evidence.source("face", "speech_folds", "fusion_folds"),
        ),
        Text(f"Both, by FER+ labels, fold by fold: {', '.join(by_fold)}."),
    ]


def fusion_methods(evidence: Evidence, out: Path) -> list[Block]:
    rows = []
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
    groups = {
        name: {METHODS[method]: methods_of(evidence, head)[method]["accuracy"] for method in ("feature", "weighted", "voting")}
        for head, name in LABEL_SETS.items()
    }
    colors = dict(zip(groups[LABEL_SETS["official"]], (figures.BOTH, figures.FACE, figures.VOICE), strict=True))
    figures.bar_chart(out / "fusion_methods.png", groups, colors, f"feature against decision fusion, {PAIRING}")
    gap = {
        head: methods_of(evidence, head)["feature"]["accuracy"] - methods_of(evidence, head)["product, untrained"]["accuracy"]
        for head in LABEL_SETS
    }
    return [
        Heading("Table 3 and Figure 3: feature against decision fusion"),
        Text(f"One protocol for all: {evidence['fusion_folds']['protocol']}. The pairs are {PAIRING}; {PAIRING_CAVEAT}."),
        Table(
            ("way of fusing", "accuracy", "F", "calm as neutral", "points over the better branch", "ECE"),
            rows,
            evidence.source("fusion_folds"),
        ),
        Figure(
            "fusion_methods.png",
            "Bars: feature fusion, weighted average and voting by label set",
            evidence.source("fusion_folds"),
        ),
        Text(
            "Feature fusion reads both embeddings through the branches' heads and multiplies what they say, each side "
            "as far as it is "
            "trusted; decision fusion averages two answers or lets them vote. Pairs by class know nothing of each "
            "other once the "
            "class is given, for which the product is the best rule there is: that is why an average falls behind "
            "here, and why "
            f"learning adds little to the bare product ({percentage_points(gap['official'])} points by FER2013's labels, "
            f"{percentage_points(gap['ferplus'])} by FER+). In life the two sides do depend on each other: see true pairs below."
        ),
    ]


def confusion(evidence: Evidence, out: Path) -> list[Block]:
    fused = methods_of(evidence, "ferplus")["feature"]
    face = evidence["face"]["by_label_set"].get("ferplus", evidence["face"])
    figures.confusion_matrices(
        out / "confusion.png",
        {
            "face (FER+ majority)": face["confusion"],
            "voice (five folds)": evidence["speech_folds"]["pooled"]["confusion"],
            "both (pairs, FER+ majority)": fused["confusion"],
        },
    )
    rows = [
        (
            label,
            percent(face["per_class"][label]["recall"]) if face["per_class"][label]["n"] else "-",
            percent(evidence["speech_folds"]["pooled"]["per_class"][label]["recall"]),
            percent(fused["per_class"][label]["recall"]),
            percent(fused["per_class"][label]["precision"]),
        )
        for label in LABELS
    ]
    source = evidence.source("face", "speech_folds", "fusion_folds")
    return [
        Heading("Figure 2: what is taken for what"),
        Figure("confusion.png", "Confusion matrices of face, voice and both, in shares of the true class", source),
        Table(("class", "found by the face", "found by the voice", "found by both", "right when both say so"), rows, source),
    ]
