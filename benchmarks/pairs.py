"""Do two runs of `moodring bench` agree? Runs it in pairs and compares every ratio of each.

    python -m benchmarks.pairs [--pairs 5] [--seconds 9] --json docs/benchmarks/pairs.json

A pair agrees where no ratio differs by more than a tenth. One that does not should hold a run that calls itself noisy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_json

RATIO_TOLERANCE = 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=9.0, help="length of each run's paced part (9)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pairs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        for _ in range(arguments.pairs):
            first, second = (run(Path(folder) / "bench.json", arguments.seconds) for _ in range(2))
            pairs.append(compare(first, second))
            found = {
                "benchmark": "pairs",
                "machine": machine(),
                "agree": sum(pair["agree"] for pair in pairs),
                "flagged": sum(bool(pair["noisy"]) and not pair["agree"] for pair in pairs),
                "pairs": pairs,
            }
            write_json(found, arguments.json)  # after each: the whole takes minutes


def run(path: Path, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "moodring.cli", "bench", "--seconds", str(seconds), "--json", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return by how much the ratio that differs most does, in which, and which of the two call themselves noisy."""
    deviations = {name: abs(second["ratios"][name] / value - 1) for name, value in first["ratios"].items()}
    worst = max(deviations, key=lambda name: deviations[name])
    noisy = [name for name, figures in (("first", first), ("second", second)) if figures["noisy"]]
    return {
        "agree": deviations[worst] <= RATIO_TOLERANCE,
        "worst": deviations[worst],
        "in": worst,
        "noisy": noisy,
        "troubles": [figures["troubles"] for figures in (first, second)],
        "ratios": [first["ratios"], second["ratios"]],
    }


if __name__ == "__main__":
    main()
