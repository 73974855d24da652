"""`moodring`, with every duration of its stages written down: what it tells of itself are percentiles of single seconds.

    python -m benchmarks.watched_run FILE run --config ...

FILE holds records of four int64: the stream's number, the stage's in edge.telemetry.STAGES, when it ended on the monotonic
clock and how long it took, both in ns. Nothing of it stays in memory, so that a run may be watched for growth meanwhile.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does, before anything loads NumPy

from edge import cli, telemetry

RECORD = struct.Struct("=4q")


def main() -> int:
    with Path(sys.argv[1]).open("wb") as file:

        class Written(telemetry.Histogram):
            """Knows its stream and stage by its turn: each stream makes them in the order of STAGES."""

            made = 0

            def __init__(self) -> None:
                super().__init__()
                self._of = divmod(Written.made, len(telemetry.STAGES))
                Written.made += 1

            def add(self, duration_ns: int) -> None:
                super().add(duration_ns)
                file.write(RECORD.pack(*self._of, time.monotonic_ns(), duration_ns))

        telemetry.Histogram = Written  # type: ignore[misc]
        return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
