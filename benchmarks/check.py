"""Regressions of speed: compare the ratios of a run of `moodring bench` with the committed ones.

    python -m benchmarks check docs/benchmarks/bench.json build/bench.json

Ratios to the kernel baseline (floor.) are better if they are smaller, ratios to peers (peer.) if they are larger. The exit code
is 1 if a ratio became worse by more than 10 %, and 0 if one of the runs is marked as noisy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

RATIO_TOLERANCE = 0.10  # of a ratio between two runs that agree


def main(argv: Sequence[str] | None = None) -> int:
    """Print the ratios that changed by more than the tolerance; return 1 if one of them became worse, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks check", description=__doc__.splitlines()[0])
    parser.add_argument("baseline", type=Path, metavar="BASELINE", help="JSON file of the earlier run")
    parser.add_argument("run", type=Path, metavar="RUN", help="JSON file of the run to check")
    arguments = parser.parse_args(argv)
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (arguments.baseline, arguments.run))
    worse = False
    for name in sorted(old["ratios"].keys() & new["ratios"].keys()):
        before, after = old["ratios"][name], new["ratios"][name]
        if abs(after / before - 1) <= RATIO_TOLERANCE:
            continue
        is_worse = (after > before) == name.startswith("floor.")
        worse |= is_worse
        print(f"{'worse' if is_worse else 'better'}: {name} {before:.2f} -> {after:.2f} ({100 * (after / before - 1):+.0f} %)")
    if only := sorted(old["ratios"].keys() ^ new["ratios"].keys()):
        print(f"only in one run: {', '.join(only)}")
    if new["noisy"] or old["noisy"]:
        print("one of the runs is marked as noisy: run it again while no other program uses the machine")
        return 0
    if not worse:
        print(f"no ratio became worse by more than {100 * RATIO_TOLERANCE:.0f} %")
    return int(worse)
