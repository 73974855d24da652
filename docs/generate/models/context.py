"""Sections of the report that give context: other splits, training curves, published results, limits, provenance."""

from __future__ import annotations

from pathlib import Path

from docs.generate.models import figures
from docs.generate.models.blocks import Block, Figure, Heading, Table, Text
from docs.generate.models.evidence import PAIRS_ARE_EASIER, Evidence, describe_face_seeds, describe_spread, percent
from moodring.evaluation.pairs import PAIRING

PUBLISHED = (
    ("face: human raters, FER2013", "about 65 %", "[Goodfellow et al. 2013](https://arxiv.org/abs/1307.0414)"),
    ("face: mini-Xception, FER2013", "66 %", "[Arriaga et al. 2017](https://arxiv.org/abs/1710.07557)"),
    (
        "face: best published single network, FER2013",
        "73.28 %",
        "[Khaireddin and Chen 2021](https://arxiv.org/abs/2105.03588)",
    ),
    ("face: VGG13, FER+ majority labels", "84.99 %", "[Barsoum et al. 2016](https://arxiv.org/abs/1608.01041)"),
    (
        "voice: human raters, RAVDESS speech",
        "about 60 %",
        "[Livingstone and Russo 2018](https://doi.org/10.1371/journal.pone.0196391)",
    ),
)


def split_comparison(evidence: Evidence) -> list[Block]:
    """Return how the accuracy depends on the split: held-out or mixed actors, with or without copies of training images."""
    folds = evidence["speech_folds"]
    copies = evidence["face"].get("without_training_copies")
    rows = [
        ("voice, held-out actors", percent(folds["pooled"]["accuracy"])),
        ("voice, held-out actors, int8", percent(folds["int8"]["pooled"]["accuracy"])),
        (
            "voice, same actors in training and test (**inflated**)",
            percent(folds["random_split_that_mixes_actors"]["accuracy"]),
        ),
        ("voice, most frequent class as the only output", percent(folds["majority_baseline"])),
        ("face, official labels", percent(evidence["face"]["accuracy"])),
    ]
    if copies:
        name = f"face, official labels, without {copies['copies']} images that FER2013 also has in Training"
        rows.append((name, percent(copies["accuracy"])))
    return [
        Heading("Held-out and mixed actors"),
        Table(("what", "accuracy"), rows, evidence.source("speech_folds", "face")),
        Text(
            "Published results with the same actors in training and test are 83 % to 96 %. They do not predict the accuracy on "
            "a new voice."
        ),
    ]


def curves(evidence: Evidence, out: Path) -> list[Block]:
    """Return the training curves as a chart; empty without a training history."""
    found = {
        kind: evidence[f"{kind}_history"]["history"] for kind in ("face", "speech", "fusion") if f"{kind}_history" in evidence
    }
    if not found:
        return []
    figures.curves(out / "curves.png", found)
    source = evidence.source(*(f"{kind}_history" for kind in found))
    return [
        Heading("Figure 4: training curves"),
        Text(
            "For face and fusion, the validation data selects the epoch whose weights are kept. The voice network is the "
            "shipped one: it was trained on every actor, including the two validation actors, and its last epoch is kept. "
            "Training uses no test image."
        ),
        Figure("curves.png", "Losses and accuracy on validation data by epoch", source),
    ]


def instants_sheet(evidence: Evidence, out: Path) -> list[Block]:
    """Return the results at some instants of the bundled clip as a chart; empty without recorded events."""
    if "sample_events" not in evidence:
        return []
    instants = evidence["sample_events"]["instants"]
    figures.instants_sheet(out / "sheet.png", instants)
    return [
        Heading("Figure 1: results for the bundled clip"),
        Text(
            f"The results of the daemon at {len(instants)} instants of the bundled clip, a public-domain portrait with a "
            "synthetic voice. This page shows no image of a data set, because these images must not be published."
        ),
        Figure(
            "sheet.png",
            "Probabilities of face, voice and both at some instants of the bundled clip",
            evidence.source("sample_events"),
        ),
    ]


def references() -> list[Block]:
    """Return published results for comparison."""
    return [
        Heading("Published results for comparison"),
        Table(("what", "accuracy", "source"), PUBLISHED),
        Text("They are from other splits and from networks of other sizes. None of them was measured here."),
    ]


def limits(evidence: Evidence) -> list[Block]:
    """Return what the results do not show and where they are optimistic."""
    by_fold = evidence["speech_folds"]["over_folds"]["accuracy"]["by_fold"]
    return [
        Heading("Limits"),
        Text(
            "",
            (
                f"**Pairs.** Face and voice are {PAIRING}. {PAIRS_ARE_EASIER} No result here is from people who were filmed "
                "and recorded in everyday life.",
                f"**Speakers.** The accuracy of the voice ranges from {percent(min(by_fold))} to {percent(max(by_fold))} over "
                "the folds. The shipped voice network was trained on all twenty actors, so no actor is left to test it. Expect "
                "it to reach the accuracy of the folds.",
                "**Data.** RAVDESS is acted, in one language, by people aged 21 to 33. The labels of FER2013 are noisy, and "
                "the people in it are unknown.",
                f"**Seeds of the voice.** {_voice_seeds(evidence)}",
                f"**Seeds of the face.** {describe_face_seeds(evidence)}",
                "**Choices made on test data.** The result of a clip is that of the window with the most voice. This was "
                "chosen on all folds. Averaging two voice networks was chosen on actors 9 to 12 and 17 to 20. The results of "
                "the voice are therefore slightly optimistic. The rule of feature fusion was chosen on actors 13 to 20 and on "
                "images that are not in a test part.",
                "**CK+48.** The published face head contains one fifth of the official head. The reason was that angry faces "
                "of CK+48 were classified as neutral. The result on CK+48 is therefore slightly optimistic. The share of one "
                "fifth was chosen on validation images.",
                "**Calibration of the folds.** The temperatures and thresholds of a fold are fitted on the outputs of the "
                "other folds' networks. Those networks were trained on the actors of this fold. Every stacked model of five "
                "folds has this small leak.",
                "**Other conditions.** Thresholds and calibration apply to pairs like these and to the mean over a recording. "
                "Fit them again for another camera, microphone or population.",
            ),
        ),
    ]


def _voice_seeds(evidence: Evidence) -> str:
    if "speech_seeds" not in evidence:
        return "The voice network was trained once, with one seed."
    return (
        f"The five voice networks were trained {len(evidence['speech_seeds']['runs'])} times with different seeds. Pooled "
        f"accuracy: {describe_spread(evidence, 'speech_seeds', 'accuracy')} ([speech_seeds.json](speech_seeds.json))."
    )


def provenance(evidence: Evidence) -> list[Block]:
    """Return the list of the evaluation files with command, commit and seed."""
    return [
        Heading("Sources of the figures"),
        Text(
            "Every figure above comes from one of these files. `moodring evaluate` computes those of the shipped bundle "
            "again without PyTorch. Each command is shown as it was run at its commit. For a command `make NAME`, run "
            "`python -m benchmarks NAME` now, with `_` for `-`."
        ),
        Table(("file", "command", "commit", "seed", "bundle"), evidence.provenance()),
    ]
