"""Repeatability of `moodring bench`: run it in pairs and compare every ratio within each pair.

    python -m benchmarks pairs [--pairs 5] [--seconds 9] [--json FILE]

A pair agrees if no ratio differs by more than 10 %. In a pair that does not agree, one run should be marked as noisy.
The committed figures are in docs/benchmarks/pairs.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.check import RATIO_TOLERANCE
from benchmarks.report import machine, write_json


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the pairs and write the comparison of each; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks pairs", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="number of pairs (5)")
    parser.add_argument("--seconds", type=float, default=9.0, metavar="N", help="duration of the paced part of each run (9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    arguments = parser.parse_args(argv)
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
            write_json(found, arguments.json)  # after each pair: all of them take minutes
    return 0


def run(path: Path, seconds: float) -> dict[str, Any]:
    """Run `moodring bench` with the given duration of its paced part; return its figures."""
    command = [sys.executable, "-m", "moodring.cli", "bench", "--seconds", str(seconds), "--json", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the largest relative difference of a ratio, the name of that ratio, and which of the two runs are noisy."""
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
