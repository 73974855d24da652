"""Has anything become slower? Compares the ratios of a run of `moodring bench` with committed ones.

    python -m benchmarks.check docs/benchmarks/bench.json build/bench.json

Ratios to the bare kernels (floor.) are better where they are smaller, ratios to peers (peer.) where they are larger. Exit
code 1 where one became worse by more than a tenth; a run that calls itself noisy proves nothing and fails nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

RATIO_TOLERANCE = 0.10


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("baseline", type=Path)
    parser.add_argument("run", type=Path)
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
        print(f"only in one: {', '.join(only)}")
    if new["noisy"] or old["noisy"]:
        print("one of the runs calls itself noisy: leave the machine alone and run it again")
        return 0
    if not worse:
        print(f"no ratio became worse by more than {100 * RATIO_TOLERANCE:.0f} %")
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
