"""The evaluation files in docs/models. Every figure on the generated pages comes from one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodring.errors import DataError

METHODS = {
    "feature": "feature fusion",
    "weighted": "decision fusion, weighted average",
    "voting": "decision fusion, voting",
    "product, untrained": "product of both outputs, untrained",
}
LABEL_SETS = {"official": "official labels", "ferplus": "FER+ majority labels"}
PAIRS_ARE_EASIER = (
    "In such pairs, the errors of face and voice are independent, so fusion is easier than for one person recorded with both."
)
FEATURE_FUSION = (
    "classifies both embeddings with the heads of their branches and multiplies the two results. Each result counts in "
    "proportion to its trust: the product of `usable`, the quality of the face crop, and the freshness of the output."
)
REQUIRED = ("face", "speech_folds", "fusion_folds")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The contents of the JSON files by file name without suffix. All but those in `REQUIRED` are optional."""

    files: dict[str, dict[str, Any]]

    def __getitem__(self, name: str) -> Any:
        return self.files[name]

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def source(self, *names: str) -> str:
        """Return the source note of a table or chart, with links to the files."""
        return "From " + ", ".join(f"[{name}.json]({name}.json)" for name in names)

    def provenance(self) -> list[tuple[str, ...]]:
        """Return one row for each file: name, command, commit, seed and evaluated bundle."""
        rows: list[tuple[str, ...]] = []
        for name, file in self.files.items():
            seed = file.get("seed", file.get("recipe", {}).get("seed"))
            rows.append(
                (
                    f"[{name}.json]({name}.json)",
                    f"`{file['command']}`" if file.get("command") else "-",
                    f"`{file['commit'][:10]}`" if file.get("commit") else "-",
                    "-" if seed is None else str(seed),
                    f"`{file['bundle']}`" if file.get("bundle") else "-",
                )
            )
        return rows


def read_evaluations(folder: Path) -> Evidence:
    """Read every JSON file of a folder. Raises DataError if a file of `REQUIRED` is missing or any file is not JSON."""
    documents = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    files = {name: document for name, document in documents.items() if isinstance(document, dict)}
    missing = [f"{name}.json" for name in REQUIRED if name not in files]
    if missing:
        raise DataError(
            f"{folder}: missing {', '.join(missing)}; `make models` writes all evaluation files, `make evaluate` those of the "
            "face and of the fusion"
        )
    return Evidence(files)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises DataError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); restore the file or measure again") from error


def percent(value: float | None) -> str:
    """Format a fraction in per cent with one decimal; a dash for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def percentage_points(value: float) -> str:
    """Format a difference of fractions in percentage points with its sign and one decimal, without the unit."""
    return f"{100 * value:+.1f}"


def methods_of(evidence: Evidence, head: str) -> Mapping[str, Any]:
    """Return the metrics of each fusion method, pooled over the folds, for one label set."""
    found: Mapping[str, Any] = evidence["fusion_folds"]["by_label_set"][head]["methods"]
    return found


def describe_spread(evidence: Evidence, name: str, metric: str) -> str:
    """Return a metric of each training run of a seeds file, with mean and standard deviation."""
    seeds = evidence[name]
    runs = ", ".join(percent(run[metric]) for run in seeds["runs"])
    deviation = percentage_points(seeds[metric]["deviation"]).lstrip("+")
    return f"{runs} (mean {percent(seeds[metric]['mean'])}, standard deviation {deviation} pp)"


def describe_face_seeds(evidence: Evidence) -> str:
    """Return how often the face network was trained, the accuracy of each run, and the loss with 30 % of an image occluded."""
    if "face_seeds" not in evidence:
        return "The face network was trained once, with one seed."
    seeds = evidence["face_seeds"]
    results = []
    for head, name in LABEL_SETS.items():
        if head in seeds:
            loss = percentage_points(seeds[f"{head}_covered"]["mean"] - seeds[head]["mean"])
            spread = describe_spread(evidence, "face_seeds", head)
            results.append(f"On {name}: {spread}; the mean changes by {loss} pp with 30 % of each image occluded.")
    count = len(seeds["runs"])
    if seeds["parts"] == "all":
        return f"The face network was trained {count} times with different seeds. {' '.join(results)}"
    return (
        f"The last stage of the face training was run {count} times with different seeds, each time from the same weights. The "
        f"variation of the earlier stages is not included. {' '.join(results)}"
    )
