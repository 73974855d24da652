"""How far the answers can be relied on: confidence, missing and wrong sides, true pairs, noise."""

from __future__ import annotations

from pathlib import Path

from docs.generate.models import figures
from docs.generate.models.blocks import Block, Figure, Heading, Table, Text
from docs.generate.models.evidence import LABEL_SETS, METHODS, Evidence, methods_of, percent, percentage_points
from moodring.labels import LABELS


def calibration(evidence: Evidence, out: Path) -> list[Block]:
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
        lowest, highest = min(p["threshold"] for p in found["by_fold"]), max(p["threshold"] for p in found["by_fold"])
        rows.append(
            (
                name,
                f"{lowest:.2f} to {highest:.2f}",
                percent(found["stated"]),
                percent(found["right"]),
                percent(found["coverage"]),
            )
        )
    return [
        Heading("How far its confidence can be believed"),
        Figure("reliability.png", "Reliability diagrams: how often right against how sure", evidence.source("fusion_folds")),
        Text(
            "A temperature for each branch and each way of fusing, drawn from people whom the networks never heard, "
            "makes answers as "
            "sure as they are right. A threshold is drawn in the same way from the curve below, so that answers above "
            "it are right "
            "90 % of the time; the table holds that against people who had no part in it. The [card](card.md) names that of "
            "the shipped models."
        ),
        Table(
            ("labels", "threshold, by fold", "stated", "held-out: right above it", "share of pairs above it"),
            rows,
            evidence.source("fusion_folds"),
        ),
        Figure("risk_coverage.png", "How often right, when only the surest are answered", evidence.source("fusion_folds")),
    ]


def missing_modality(evidence: Evidence, out: Path) -> list[Block]:
    del out
    rows, wrong_rows = [], []
    for head, name in LABEL_SETS.items():
        found = methods_of(evidence, head)["feature"]
        rows += [
            (f"no voice, {name}", percent(found["speech_missing"]["accuracy"]), percent(found["face_alone"]["accuracy"])),
            (f"no face, {name}", percent(found["face_missing"]["accuracy"]), percent(found["speech_alone"]["accuracy"])),
        ]
        part = evidence["fusion_folds"]["by_label_set"][head]
        for side, title in (("face", "face"), ("speech", "voice")):
            wrong, noise = part["wrong"][side], part["noise"][side]
            fresh = wrong["fused_by_freshness"]
            wrong_rows.append(
                (
                    f"{title}, {name}",
                    percent(wrong["right_side_alone"]),
                    *(percent(fresh[key]) for key in ("1", "0.5", "0.2")),
                    percent(noise["refused"]),
                    percent(noise["accuracy"]),
                )
            )
    return [
        Heading("One side missing, frozen, wrong or noise"),
        Text("With one side missing the answer is the other branch's own, calibrated as that branch is."),
        Table(("what is missing", "fused", "the other branch alone"), rows, evidence.source("fusion_folds")),
        Text(
            "Wrong on purpose: one side shows another class than the pair's. As fresh as the other, it cannot be told "
            "from the right "
            "one; as it ages it counts for less (a face from 0.25 s on, a voice from 0.75 s, until they are left out "
            "at 0.5 s and "
            "1.5 s). Noise, random pixels or white noise, is refused by `usable` before it is fused."
        ),
        Table(
            (
                "wrong side",
                "right side alone",
                "fused, wrong side fresh",
                "half faded",
                "to a fifth",
                "noise refused",
                "fused with noise",
            ),
            wrong_rows,
            evidence.source("fusion_folds"),
        ),
    ]


def true_pairs(evidence: Evidence, out: Path) -> list[Block]:
    del out
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
        Heading("True pairs beside pairs by class"),
        Text(
            "RAVDESS filmed its actors while they spoke. From those films come the facial action units of every "
            "recording (OpenFace; "
            "numbers, no picture). A small classifier reads them "
            f"({percent(found['face_alone']['accuracy'])} in seven classes, actors apart), and the same rules of fusion "
            "join them with "
            "the voice: of the same recording, and of another actor's recording of the same class."
        ),
        Table(
            ("rule", "true pairs", "pairs by class", "difference, points", "calm as neutral, points"),
            rows,
            evidence.source("fusion_folds"),
        ),
        Text(
            f"Both sides are wrong at once in {percent(together['true'])} of true pairs and "
            f"{percent(together['by_class'])} of pairs by "
            "class: a recording that is hard to hear tends to be hard to see. That is what pairs by class flatter."
        ),
    ]


def out_of_domain_faces(evidence: Evidence) -> list[Block]:
    """Say how faces of another corpus are read, and what is said of pictures in which nobody is."""
    blocks: list[Block] = []
    if "face_ck48" in evidence:
        found = evidence["face_ck48"]
        classes = {label: part for label, part in found["per_class"].items() if part["n"]}
        by_class = ", ".join(f"{label} {percent(part['recall'])}" for label, part in classes.items())
        neutral = sum(row[LABELS.index("neutral")] for row in found["confusion"])
        blocks.append(
            Text(
                f"Another corpus of faces: of {found['n']} photographs of CK+48, posed in a studio, found and cropped as the "
                f"daemon does it, the published head reads {percent(found['accuracy'])} right ({by_class}). None of them is "
                f"labelled neutral; {percent(neutral / found['n'])} are taken for it ([face_ck48.json](face_ck48.json))."
            )
        )
    if "face_nonfaces" in evidence:
        found = evidence["face_nonfaces"]
        squares, finds = found["squares"], found["haar_finds"]
        blocks.append(
            Text(
                f"Where nobody is: {percent(squares['refused'])} of {squares['n']} squares cut from pictures without a face "
                f"are refused, and {percent(finds['refused'])} of the {finds['n']} places in them that look like a face to "
                "the cascades alone "
                "([face_nonfaces.json](face_nonfaces.json))."
            )
        )
    return blocks


def robustness(evidence: Evidence, out: Path) -> list[Block]:
    folds = evidence["speech_folds"]
    blocks: list[Block] = [Heading("Noise and bad pictures")]
    if by_noise := folds.get("by_noise"):
        voices: dict[str, dict[str, list[tuple[str, float]]]] = {
            "voice in noise, dB": {
                name.removeprefix("sc_").replace("_", " "): list(by_snr.items()) for name, by_snr in by_noise.items()
            }
        }
        figures.line_panels(out / "robustness_voice.png", voices, "right, per cent")
        source = evidence.source("speech_folds")
        blocks.append(Figure("robustness_voice.png", "Voice accuracy by noise and its level, five folds", source))
    for name in evidence.files:
        if "by_disturbance" in evidence[name]:
            groups = {
                f"{kind}, {part['unit']}".rstrip(", "): {
                    head: [(strength, at[head]) for strength, at in part["by_strength"].items()]
                    for head in next(iter(part["by_strength"].values()))
                    if head in (*LABEL_SETS, "voice")
                }
                for kind, part in evidence[name]["by_disturbance"].items()
            }
            what = "voice" if name == "speech_folds" else "face"
            figure_file = "robustness_face.png" if what == "face" else "disturbed_voice.png"
            figures.line_panels(out / figure_file, groups, "right, per cent")
            caption = f"{what.capitalize()} accuracy by disturbance and its strength"
            blocks.append(Figure(figure_file, caption, evidence.source(name)))
    blocks += out_of_domain_faces(evidence)
    if tess := folds.get("tess"):
        speakers = ", ".join(f"{name} {percent(share)}" for name, share in tess["by_speaker"].items())
        blocks.append(
            Text(
                f"Another corpus of voices: of {tess['n']} TESS recordings the five networks read "
                f"{percent(tess['accuracy']['mean'])} right ({speakers}). TESS has two speakers, both women: this says that "
                "voices recorded elsewhere are read far worse, and little more."
            )
        )
    if "ablations" in evidence:
        variants = evidence["ablations"]["variants"].values()
        levels = list(next(iter(variants))["mean_by_snr_db"])
        rows = [(v["says"], percent(v["clean"]), *(percent(v["mean_by_snr_db"][level]) for level in levels)) for v in variants]
        blocks += [
            Text(f"What the parts of a network of the voice are worth: {evidence['ablations']['protocol']}."),
            Table(("ablation", "clean", *(f"{level} dB" for level in levels)), rows, evidence.source("ablations")),
        ]
    return blocks
