"""`moodring run` that writes the duration of every stage call to a file.

    python -m benchmarks.watched_run FILE run --config ...

The status events of moodring contain only percentiles of single seconds. FILE contains records of five int64: the number of
the stream, the index of the stage in TIMED_STAGES, the end of the call on the monotonic clock, its duration, and the CPU time
of its thread during the call; the last three in ns. No record stays in memory, so the memory growth of the run can be measured
at the same time.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does, before NumPy is loaded

from moodring import cli, process
from moodring.arguments import frozen
from moodring.clock import Clock
from moodring.config import PageConfig
from moodring.errors import MoodringError
from moodring.publish.base import PageContent, Publisher
from moodring.run import command
from moodring.run.options import RunOptions
from moodring.telemetry import STAGES, HistogramTimer, Telemetry

# The stages of a pipeline, then the calls of `see` that classified a face and the calls of `hear` that classified a window.
TIMED_STAGES = (*STAGES, "face_result", "speech_result")
RESULTS = {"see": "face_result", "hear": "speech_result"}
CLASSIFIERS = {"face": "see", "speech": "hear"}  # the stage of each network, and the stage that it runs in
RECORD = struct.Struct("=5q")


class RecordingTimer(HistogramTimer):
    """Feeds the telemetry, and writes a record of each stage call of one stream to a file."""

    def __init__(self, telemetry: Telemetry, clock: Clock, file: BinaryIO, stream: int) -> None:
        super().__init__(telemetry, clock)
        self._file = file
        self._stream = stream
        self._has_result = dict.fromkeys(RESULTS, False)  # of the call in progress; each stage runs in one thread

    def stage(self, name: str) -> contextlib.AbstractContextManager[object]:
        if name in RESULTS:
            self._has_result[name] = False
        elif name in CLASSIFIERS:
            self._has_result[CLASSIFIERS[name]] = True
        timing = super().stage(name)
        return _Recording(self, name, timing) if name in STAGES else timing

    def write(self, stage: str, end_ns: int, duration_ns: int, cpu_ns: int) -> None:
        """Write a record of a finished call, and a second one if it classified a face or a window."""
        names = (stage, RESULTS[stage]) if self._has_result.get(stage) else (stage,)
        self._file.writelines(
            RECORD.pack(self._stream, TIMED_STAGES.index(name), end_ns, duration_ns, cpu_ns) for name in names
        )


class _Recording:
    """Context manager that writes the duration of its body, unless the body raises."""

    def __init__(self, timer: RecordingTimer, stage: str, timing: contextlib.AbstractContextManager[object]) -> None:
        self._timer = timer
        self._stage = stage
        self._timing = timing

    def __enter__(self) -> None:
        self._start_ns, self._start_cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        self._timing.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._timing.__exit__(kind, error, where)
        cpu_ns, end_ns = time.thread_time_ns() - self._start_cpu_ns, time.monotonic_ns()
        if kind is None:
            self._timer.write(self._stage, end_ns, end_ns - self._start_ns, cpu_ns)


class RecordingTimers:
    """Makes the timers of a run, which number its streams from 0 and write to one file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._streams = 0

    def __call__(self, telemetry: Telemetry, clock: Clock) -> RecordingTimer:
        timer = RecordingTimer(telemetry, clock, self._file, self._streams)
        self._streams += 1
        return timer


def _open_page(config: PageConfig, content: PageContent, log: Callable[[str], None]) -> Publisher:
    """Import the page server only when it is needed: it costs memory, which `benchmarks live` measures."""
    from moodring.dashboard.opening import open_page

    return open_page(config, content, log)


def main(argv: Sequence[str]) -> int:
    """Run `moodring run` with these options after the name of the file; return its exit code."""
    path, *arguments = argv
    options = frozen(RunOptions, cli.parser().parse_args(arguments))
    process.install()
    with Path(path).open("wb") as file:
        try:
            return command.run(options, _open_page, RecordingTimers(file))
        except KeyboardInterrupt:
            return process.INTERRUPTED
        except MoodringError as error:
            print(f"moodring: {error}", file=sys.stderr)
            return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
