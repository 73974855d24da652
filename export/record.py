"""usage: python -m export.record BUNDLE_DIR EVALUATION.json ...

Put the figures of `moodring evaluate` into a bundle's bundle.json, keyed by the files' names, and give it its new id.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge.errors import MoodringError
from export.write import record_accuracy


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(f"bundle {record_accuracy(Path(arguments[0]), [Path(name) for name in arguments[1:]])}")
    except MoodringError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
