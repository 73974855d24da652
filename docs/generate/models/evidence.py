"""The evaluation files in docs/models: each figure on the pages is read from one of them, and says from which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodring.errors import DataError

METHODS = {
    "feature": "feature fusion",
    "weighted": "decision: weighted average",
    "voting": "decision: voting",
    "product, untrained": "product of both answers, nothing learnt",
}
LABEL_SETS = {"official": "FER2013's own labels", "ferplus": "FER+ majority"}
REQUIRED = ("face", "speech_folds", "fusion_folds")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The files at hand, by name without suffix; those beyond `NEEDED` may be absent."""

    files: dict[str, dict[str, Any]]

    def __getitem__(self, name: str) -> Any:
        return self.files[name]

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def source(self, *names: str) -> str:
        """Say which files figures are from; how those were made stands at the end of the report."""
        return "From " + ", ".join(f"[{name}.json]({name}.json)" for name in names)

    def provenance(self) -> list[tuple[str, ...]]:
        """Return each file's name with the command, commit and seed that made it, and the bundle that was measured."""
        rows = []
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
    """Read every evaluation in a folder; raise DataError where one that the report rests on is absent or unreadable."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as JSON ({error}); evaluate again or restore it") from error
        if isinstance(document, dict):
            files[path.stem] = document
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise DataError(
            f"{folder}: lacks {', '.join(f'{name}.json' for name in missing)}; `make evaluate`, `make folds` and "
            "`make fusion-folds` write them"
        )
    return Evidence(files)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def percentage_points(value: float) -> str:
    return f"{100 * value:+.1f}"


def methods_of(evidence: Evidence, head: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = evidence["fusion_folds"]["by_label_set"][head]["methods"]
    return found


def describe_spread(evidence: Evidence, name: str, figure: str) -> str:
    """Say what came out of each training with another seed, and how far that lies apart."""
    seeds = evidence[name]
    runs = ", ".join(percent(run[figure]) for run in seeds["runs"])
    deviation = percentage_points(seeds[figure]["deviation"]).lstrip("+")
    return f"{runs} (mean {percent(seeds[figure]['mean'])}, deviation {deviation} points)"


def describe_face_seeds(evidence: Evidence) -> str:
    """Say how often the face network was trained, what came out, and what a cover over 30 % of each picture costs."""
    if "face_seeds" not in evidence:
        return "The face network was trained once, with one seed."
    seeds = evidence["face_seeds"]
    sets = []
    for head, name in LABEL_SETS.items():
        if head in seeds:
            cost = percentage_points(seeds[f"{head}_covered"]["mean"] - seeds[head]["mean"])
            sets.append(
                f"{describe_spread(evidence, 'face_seeds', head)} on {name}, {cost} points with 30 % of each picture covered"
            )
    if seeds["parts"] == "all":
        return f"The face network was trained {len(seeds['runs'])} times, with other seeds: {'; '.join(sets)}."
    return (
        f"The last part of the face network's training was run {len(seeds['runs'])} times, with other seeds and from the same "
        f"weights, which hides what luck there was before it: {'; '.join(sets)}."
    )
