"""The results table of the README. It stands between two markers and comes from the same evaluation files as the report."""

from __future__ import annotations

from pathlib import Path

from docs.generate.models.blocks import Block, Table, blocks_to_markdown
from docs.generate.models.evidence import Evidence, methods_of, percent
from moodring.errors import DataError
from moodring.evaluation.pairs import PAIRING

BEGIN, END = "<!-- figures: written by `make docs` from docs/models/*.json -->", "<!-- end of figures -->"
MODELS_FOLDER = "docs/models"


def write(readme: Path, evidence: Evidence) -> None:
    """Replace the text between the markers. Raises DataError if a marker is missing."""
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise DataError(f"{readme}: a marker of the results table is missing; restore the lines {BEGIN!r} and {END!r}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(before + BEGIN + "\n" + section(evidence) + END + after, encoding="utf-8")


def section(evidence: Evidence) -> str:
    """Return the Markdown between the markers."""
    return blocks_to_markdown(_table(evidence))


def _table(evidence: Evidence) -> list[Block]:
    face, folds = evidence["face"], evidence["speech_folds"]["pooled"]

    def row(what: str, name: str, data: str, found: dict[str, float]) -> tuple[str, ...]:
        link = f"[{what}]({MODELS_FOLDER}/{name}.json)" if name else what
        return (link, data, str(found["n"]), percent(found["accuracy"]), percent(found["macro_f1"]), percent(found["ece"]))

    rows = [row("face", "face", f"FER2013 {face['split']}, official labels", face)]
    if "ferplus" in face["by_label_set"]:
        rows.append(row("face", "", "the same images, FER+ majority labels", face["by_label_set"]["ferplus"]))
    fused = methods_of(evidence, "ferplus")["feature"]
    rows += [
        row("voice", "speech_folds", "RAVDESS, five folds of four held-out actors each", folds),
        row("**both**", "fusion_folds", f"five folds, FER+ labels, {PAIRING}", fused),
    ]
    return [Table(("what", "data", "n", "accuracy", "macro F1", "ECE"), rows)]
