"""usage: python -m moodring.evaluation.record BUNDLE_DIR EVALUATION.json ...

Put the figures of `moodring evaluate` into a bundle's bundle.json, keyed by the files' names, and seal it again. Of models
that were cross-validated they are those of the folds (NAME_folds.json): the recipe's, not this bundle's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moodring.errors import BundleError, MoodringError
from moodring.inference.bundle import BUNDLE_FILE, add_hashes, to_json_text

FOLDS_SUFFIX = "_folds"  # ends the names of files that pool several models' figures
RECORDED_METRICS = (
    "n", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece", "precision", "split",
    "actors", "protocol", "pairing", "method",
)  # fmt: skip


def record_accuracy(bundle_dir: Path, evaluations: Iterable[Path]) -> str:
    """Put measured figures into bundle.json, keyed by the evaluation files' names; return the bundle's id, which stays.

    Raises BundleError where an evaluation cannot be read, measured another bundle, or the folds of another recipe.
    """
    path = bundle_dir / BUNDLE_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        measured = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in evaluations}
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} or an evaluation cannot be read ({error})") from error
    for name, evaluation in measured.items():
        if "pooled" in evaluation:
            if _without_fold(evaluation.get("recipe", {})) != _without_fold(document["training"]["recipe"].get("speech", {})):
                raise BundleError(f"{name}.json measured folds of another recipe than this bundle's; run them again")
        elif evaluation.get("bundle") != document["id"]:
            raise BundleError(
                f"{name}.json measured bundle {evaluation.get('bundle')}, not {document['id']}; evaluate it again"
            )
    document["accuracy"] = {name.removesuffix(FOLDS_SUFFIX): _select_metrics(found) for name, found in sorted(measured.items())}
    add_hashes(document)
    part = path.with_name(f".{BUNDLE_FILE}.part")
    part.write_text(to_json_text(document), encoding="utf-8")
    part.replace(path)
    return str(document["id"])


def _without_fold(recipe: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "fold"}


def _select_metrics(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one evaluation; of all folds together, and of feature fusion, where there are several."""
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
