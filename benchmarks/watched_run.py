"""`moodring`, with every duration of its stages written down: what it tells of itself are percentiles of single seconds.

    python -m benchmarks.watched_run FILE run --config ...

FILE holds records of five int64: the stream's number, the number in TIMED of what was timed, when it ended on the monotonic
clock, how long it took and how long its thread had a core meanwhile, all three in ns. Nothing of it stays in memory, so that a
run may be watched for growth meanwhile.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does, before anything loads NumPy

from moodring import cli, telemetry

if TYPE_CHECKING:
    from collections.abc import Callable

# The stages, and of what is seen and heard that which ended in a face or a voice that was read.
TIMED_STAGES = (*telemetry.STAGES, "face_result", "speech_result")
RESULT_COUNTERS = {"see": ("face_result", "faces_read"), "hear": ("speech_result", "windows_read")}
RECORD = struct.Struct("=5q")


def main() -> int:
    with Path(sys.argv[1]).open("wb") as file:

        class RecordingStageTimer(telemetry.Timed):
            """Writes down how long each stage of its stream took."""

            streams = 0

            def __init__(self, pipeline: Any, *others: Any) -> None:
                super().__init__(pipeline, *others)
                self._counters = lambda: pipeline.counters
                self._stream = RecordingStageTimer.streams
                RecordingStageTimer.streams += 1

            def _measure(self, stage: str, call: Callable[..., Any], *arguments: Any) -> Any:
                result, counter = RESULT_COUNTERS.get(stage, (None, "events"))
                before, start_ns, cpu_ns = getattr(self._counters(), counter), time.monotonic_ns(), time.thread_time_ns()
                value = super()._measure(stage, call, *arguments)
                cpu_ns, end_ns = time.thread_time_ns() - cpu_ns, time.monotonic_ns()
                is_result = result and getattr(self._counters(), counter) > before
                file.writelines(
                    RECORD.pack(self._stream, TIMED_STAGES.index(what), end_ns, end_ns - start_ns, cpu_ns)
                    for what in ((stage, result) if is_result else (stage,))
                )
                return value

        telemetry.Timed = RecordingStageTimer  # type: ignore[misc]
        return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
