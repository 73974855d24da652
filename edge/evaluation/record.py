"""usage: python -m moodring.evaluation.record BUNDLE_DIR EVALUATION.json ...

Write the figures of `moodring evaluate` into bundle.json, keyed by the names of the evaluation files, and update the hashes.
For a cross-validated network, pass NAME_folds.json: its pooled figures measure the recipe rather than this bundle's network.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moodring.errors import BundleError, MoodringError
from moodring.inference.bundle import BUNDLE_FILE, add_hashes, to_json_text

FOLDS_SUFFIX = "_folds"  # of files that pool the figures of several folds
RECORDED_METRICS = (
    "n", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece", "precision", "split",
    "actors", "protocol", "pairing", "method",
)  # fmt: skip


def record_accuracy(bundle_dir: Path, evaluations: Iterable[Path]) -> str:
    """Write measured figures into bundle.json, keyed by the names of the evaluation files; return the bundle id, which stays.

    Raises BundleError if a file cannot be read, or if an evaluation belongs to another bundle or to another recipe.
    """
    path = bundle_dir / BUNDLE_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        measured = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in evaluations}
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} or an evaluation file cannot be read ({error})") from error
    for name, evaluation in measured.items():
        if "pooled" in evaluation:
            if _without_fold(evaluation.get("recipe", {})) != _without_fold(document["training"]["recipe"].get("speech", {})):
                raise BundleError(f"{name}.json measured folds of another recipe than this bundle's; run the folds again")
        elif evaluation.get("bundle") != document["id"]:
            raise BundleError(
                f"{name}.json measured bundle {evaluation.get('bundle')}, not {document['id']}; run the evaluation again"
            )
    document["accuracy"] = {name.removesuffix(FOLDS_SUFFIX): _select_metrics(found) for name, found in sorted(measured.items())}
    add_hashes(document)
    partial = path.with_name(f".{BUNDLE_FILE}.part")
    partial.write_text(to_json_text(document), encoding="utf-8")
    partial.replace(path)
    return str(document["id"])


def _without_fold(recipe: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "fold"}


def _select_metrics(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return the recorded figures of one evaluation: pooled over the folds, and of feature fusion, if it has several."""
    found = evaluation | evaluation.get("pooled", {}) | evaluation.get("methods", {}).get("feature", {})
    figures = {key: found[key] for key in RECORDED_METRICS if key in found}
    if "by_label_set" in evaluation:
        figures["by_label_set"] = {name: _select_metrics(part) for name, part in evaluation["by_label_set"].items()}
    return figures


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(f"bundle {record_accuracy(Path(arguments[0]), [Path(name) for name in arguments[1:]])}")
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
