"""Copy what the report needs of a training run or of a daemon run into small JSON files in docs/models.

usage: python -m docs.generate.models.keep history RUNS_DIR DOCS_MODELS_DIR
       python -m docs.generate.models.keep events EVENTS.jsonl DOCS_MODELS_DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from docs.generate.models.evidence import read_json
from moodring.errors import DataError, MoodringError
from moodring.evaluation.provenance import commit

KINDS = ("face", "speech", "fusion")
INSTANTS = 6


def history(run_dir: Path, kind: str) -> dict[str, Any]:
    """Return the metrics of each epoch of a training, from its card and its run folder in `run_dir`."""
    card, metrics = read_json(run_dir / f"{kind}.json"), read_json(run_dir / kind / "metrics.json")
    rows = [{name: round(value, 5) for name, value in row.items()} for row in metrics["history"]]
    made = {"command": f"moodring train {kind}", "commit": card["commit"], "seed": card["recipe"]["seed"]}
    return {"what": f"training of {kind}, by epoch", **made, "sha256": card["sha256"], "history": rows}


def sample_instants(events: Path) -> dict[str, Any]:
    """Return the probabilities of face, voice and both at `INSTANTS` events, evenly spaced over the events with a label.

    Raises DataError if the file cannot be read or no event has a label.
    """
    try:
        lines = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{events}: cannot be read as events, one JSON object a line ({error}); record it again") from error
    labelled = [line["data"] for line in lines if line["type"] == "moodring.emotion.v1" and line["data"]["state"] == "ok"]
    if not labelled:
        raise DataError(f"{events}: no event has state ok; record a clip with a face or a voice")
    chosen = [labelled[(2 * index + 1) * len(labelled) // (2 * INSTANTS)] for index in range(INSTANTS)]
    return {
        "what": "the bundled clip as the daemon reads it",
        "command": "moodring run edge/samples/clip.mp4 --pace max --events FILE",
        "commit": commit(),
        "bundle": chosen[0]["bundle_id"],
        "instants": [
            {
                "time_s": data["capture_time_ns"] / 1e9,
                "face": _rounded(data["face"]),
                "speech": _rounded(data["speech"]),
                "fused": _rounded(data),
            }
            for data in chosen
        ],
    }


def _rounded(view: dict[str, Any] | None) -> dict[str, float] | None:
    return None if view is None else {label: round(p, 4) for label, p in view["probabilities"].items()}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run one of the two commands; return the exit code."""
    if len(arguments) != 3 or arguments[0] not in ("history", "events"):
        print(__doc__, file=sys.stderr)
        return 2
    source, out = Path(arguments[1]), Path(arguments[2])
    try:
        if arguments[0] == "events":
            _write(out / "sample_events.json", sample_instants(source))
        for kind in KINDS if arguments[0] == "history" else ():
            if (source / kind / "metrics.json").is_file():
                _write(out / f"{kind}_history.json", history(source, kind))
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
