"""The README's figures, between two marks, from the same evaluation files as the report."""

from __future__ import annotations

from pathlib import Path

from docs.generate.models.blocks import Block, Table, Text, blocks_to_markdown
from docs.generate.models.evidence import Evidence, describe_face_seeds, describe_spread, methods_of, percent
from moodring.errors import DataError
from moodring.evaluation.pairs import PAIRING, PAIRING_CAVEAT

BEGIN, END = "<!-- figures: written by `make docs` from docs/models/*.json -->", "<!-- end of figures -->"
MODELS_FOLDER = "docs/models"


def write(readme: Path, evidence: Evidence) -> None:
    """Replace what stands between the marks; raise DataError where the marks are not there."""
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise DataError(f"{readme}: lacks the lines {BEGIN!r} and {END!r}, between which its figures are written")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(before + BEGIN + "\n" + section(evidence) + END + after, encoding="utf-8")


def section(evidence: Evidence) -> str:
    return blocks_to_markdown([*_table(evidence), *_notes(evidence)])


def _table(evidence: Evidence) -> list[Block]:
    face, folds = evidence["face"], evidence["speech_folds"]["pooled"]
    official, ferplus = (methods_of(evidence, head)["feature"] for head in ("official", "ferplus"))

    def row(what: str, name: str, data: str, found: dict[str, float]) -> tuple[str, ...]:
        link = f"[{what}]({MODELS_FOLDER}/{name}.json)" if name else what
        return (link, data, str(found["n"]), percent(found["accuracy"]), percent(found["macro_f1"]), percent(found["ece"]))

    rows = [row("face", "face", f"FER2013 {face['split']}, official labels", face)]
    if "without_training_copies" in face:
        copies = face["without_training_copies"]
        rows.append(row("the same", "", f"without the {copies['copies']} pictures that training holds as well", copies))
    if "ferplus" in face["by_label_set"]:
        rows.append(row("the same", "", "FER+ majority labels", face["by_label_set"]["ferplus"]))
    rows += [
        row("voice", "speech_folds", "RAVDESS, five folds of four unheard actors each", folds),
        row("**both**", "fusion_folds", f"five folds, FER+ labels, {PAIRING}", ferplus),
        row("face alone", "", "on the same pairs (it never answers calm)", ferplus["face_alone"]),
        row("voice alone", "", "on the same pairs", ferplus["speech_alone"]),
        row("both", "fusion_folds", f"five folds, official labels, {PAIRING}", official),
    ]
    return [Table(("what", "data", "n", "accuracy", "macro F1", "ECE"), rows)]


def _notes(evidence: Evidence) -> list[Block]:
    folds, spread = evidence["speech_folds"], evidence["speech_folds"]["over_folds"]["accuracy"]
    methods = methods_of(evidence, "ferplus")
    part = evidence["fusion_folds"]["by_label_set"]["ferplus"]
    confident = part["confident"]
    notes = [
        f"The pairs are **{PAIRING}**: a picture and a recording that carry the same label, not one person filmed; {PAIRING_CAVEAT}.",
        f"Feature fusion {percent(methods['feature']['accuracy'])}, weighted average "
        f"{percent(methods['weighted']['accuracy'])}, "
        f"voting {percent(methods['voting']['accuracy'])} (FER+ labels; `fusion.method` chooses). Calm counted as "
        "neutral, feature "
        f"fusion reaches {percent(methods['feature']['merged_calm']['accuracy'])}.",
        "A wrong side misleads it: with a face of another class it is right in "
        f"{percent(part['wrong']['face']['fused_by_freshness']['1'])}. "
        "With one side missing it answers as the other branch alone.",
        f"Answers above a threshold that shall be right in {percent(confident['stated'])} were right in "
        f"{percent(confident['right'])} of "
        f"held-out pairs; {percent(confident['coverage'])} of the pairs are above it.",
        "Voices differ more than anything else here: over the five folds the voice's figure goes from "
        f"{percent(min(spread['by_fold']))} to "
        f"{percent(max(spread['by_fold']))}. The model that ships was trained on all twenty actors by the same recipe; nobody "
        "is left to test it on here, and the pooled figure is what to expect of it.",
        "A split that mixes actors gives the same recipe "
        f"{percent(folds['random_split_that_mixes_actors']['accuracy'])}: **inflated**.",
    ]
    if "speech_seeds" in evidence:
        count, pooled = len(evidence["speech_seeds"]["runs"]), describe_spread(evidence, "speech_seeds", "accuracy")
        notes.append(f"The folds were trained {count} times, with other seeds: {pooled} pooled.")
    notes.append(describe_face_seeds(evidence))
    if "by_noise" in folds:
        noisy = [part["10"] for part in folds["by_noise"].values()]
        notes.append(
            f"In noise at 10 dB (mean of {len(noisy)} kinds) the voice's figure over the folds falls to "
            f"{percent(sum(noisy) / len(noisy))}; as a stream, by the majority of a clip's events, it is "
            f"{percent(folds['stream']['accuracy'])}."
        )
    if "true_pairs" in evidence["fusion_folds"]:
        true = evidence["fusion_folds"]["true_pairs"]
        rules = true["rules"]["feature"]
        notes.append(
            "True pairs, the voice and the facial action units of one recording, against the same sides paired by class: "
            f"{percent(rules['true']['accuracy'])} and {percent(rules['by_class']['accuracy'])} for the same rule; both sides "
            f"are wrong in {percent(true['errors_together']['true'])} and {percent(true['errors_together']['by_class'])}."
        )
    return [Text("Read them with care:", tuple(notes))]
