"""What the figures are to be seen beside: other splits, training, published figures, and their limits."""

from __future__ import annotations

from pathlib import Path

from docs.generate.models import figures
from docs.generate.models.blocks import Block, Figure, Heading, Table, Text
from docs.generate.models.evidence import Evidence, describe_face_seeds, describe_spread, percent
from moodring.evaluation.pairs import PAIRING, PAIRING_CAVEAT

PUBLISHED = (
    ("faces: people, FER2013", "about 65 %", "[Goodfellow et al. 2013](https://arxiv.org/abs/1307.0414)"),
    ("faces: mini-Xception, FER2013", "66 %", "[Arriaga et al. 2017](https://arxiv.org/abs/1710.07557)"),
    (
        "faces: best single network published, FER2013",
        "73.28 %",
        "[Khaireddin and Chen 2021](https://arxiv.org/abs/2105.03588)",
    ),
    ("faces: VGG13 on FER+ majority labels", "84.99 %", "[Barsoum et al. 2016](https://arxiv.org/abs/1608.01041)"),
    (
        "voices: people, RAVDESS speech",
        "about 60 %",
        "[Livingstone and Russo 2018](https://doi.org/10.1371/journal.pone.0196391)",
    ),
)


def split_comparison(evidence: Evidence, out: Path) -> list[Block]:
    del out
    folds = evidence["speech_folds"]
    copies = evidence["face"].get("without_training_copies")
    rows = [
        ("voice, actors apart (honest)", percent(folds["pooled"]["accuracy"])),
        ("voice, actors mixed (**inflated**)", percent(folds["random_split_that_mixes_actors"]["accuracy"])),
        ("voice, always the commonest class", percent(folds["majority_baseline"])),
        ("voice, int8", percent(folds["int8"]["pooled"]["accuracy"])),
        ("face, official labels", percent(evidence["face"]["accuracy"])),
    ]
    if copies:
        rows.append((f"face, without {copies['copies']} pictures that training holds as well", percent(copies["accuracy"])))
    return [
        Heading("Honest and inflated splits"),
        Table(("what", "accuracy"), rows, evidence.source("speech_folds", "face")),
        Text(
            "Splits that mix a speaker's clips over training and test reach 83 to 96 % in the literature and mean "
            "nothing for a new voice."
        ),
    ]


def curves(evidence: Evidence, out: Path) -> list[Block]:
    found = {
        kind: evidence[f"{kind}_history"]["history"] for kind in ("face", "speech", "fusion") if f"{kind}_history" in evidence
    }
    if not found:
        return []
    figures.curves(out / "curves.png", found)
    source = evidence.source(*(f"{kind}_history" for kind in found))
    return [
        Heading("Figure 4: how training went"),
        Text("Figures on the validation part, which chooses the weights that are kept; no test part is looked at."),
        Figure("curves.png", "Training curves", source),
    ]


def instants_sheet(evidence: Evidence, out: Path) -> list[Block]:
    if "sample_events" not in evidence:
        return []
    figures.instants_sheet(out / "sheet.png", evidence["sample_events"]["instants"])
    return [
        Heading("Figure 1: what it says, moment by moment"),
        Text(
            "The bundled clip, a public-domain portrait with a synthetic voice, as the daemon reads it. Pictures of "
            "the data sets may "
            "not be shown, so there are none here."
        ),
        Figure(
            "sheet.png",
            "Answers of face, voice and both at some instants of the bundled clip",
            evidence.source("sample_events"),
        ),
    ]


def references() -> list[Block]:
    return [
        Heading("Published figures, to compare with"),
        Table(("what", "accuracy", "source"), PUBLISHED),
        Text("They are of other splits and sizes of network; no row was measured here."),
    ]


def limits(evidence: Evidence) -> list[Block]:
    spread = evidence["speech_folds"]["over_folds"]["accuracy"]
    return [
        Heading("Limits"),
        Text(
            "",
            (
                f"Pairs are {PAIRING}: {PAIRING_CAVEAT}. No figure here is of people filmed and recorded in life.",
                f"Voices differ: over the folds the voice's figure goes from {percent(min(spread['by_fold']))} to "
                f"{percent(max(spread['by_fold']))}. The voice network that ships heard all twenty actors; the folds' figures "
                "are what to expect of it.",
                "RAVDESS is acted, in one language, by people aged 21 to 33. FER2013's labels are noisy, and who is in "
                "it is not known.",
                f"{_seeds(evidence)} That a clip is answered by its fullest window was seen on all "
                "folds, that two voice networks answer better than one on actors 9 to 12 and 17 to 20: the voice's figure is a "
                "little optimistic. The rule of fusion was chosen on actors 13 to 20 and on pictures that are in no test part. "
                "That the published face head says a fifth of what the official one says was thought of when CK+48's angry "
                "faces were seen to be read as neutral, so that CK+48's figure is a little optimistic; how much was chosen on "
                "the validation pictures. A fold's temperatures and thresholds come from other folds' networks, which heard "
                "the fold's actors in training: a small leak that every stacked model of five folds has.",
                "Thresholds and calibration are for pairs like these, and for the mean over a recording. On another camera, "
                "microphone or population they must be drawn again.",
            ),
        ),
    ]


def _seeds(evidence: Evidence) -> str:
    voice = "The voice network was trained once, with one seed."
    if "speech_seeds" in evidence:
        voice = (
            f"The five voice networks were trained {len(evidence['speech_seeds']['runs'])} times, with other seeds: "
            f"{describe_spread(evidence, 'speech_seeds', 'accuracy')} pooled ([speech_seeds.json](speech_seeds.json))."
        )
    return f"{voice} {describe_face_seeds(evidence)}"


def provenance(evidence: Evidence) -> list[Block]:
    return [
        Heading("Where the figures come from"),
        Text("Every figure above is read from one of these files. `moodring evaluate` computes them again without PyTorch."),
        Table(("file", "made by", "commit", "seed", "bundle"), evidence.provenance()),
    ]
