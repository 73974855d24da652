"""Faults of devices and stages in a live run: time to detect and to recover, and the account of all captured data.

    python -m benchmarks faults [--times 20] [--jobs 1] [--minutes 60] [--json FILE]

Injects every fault of tests/support/devices/faults.py `times` times, in turn, into one run: it kills and freezes real
processes, sends real garbage, and takes away a real core. The run uses a bundle of random networks: their outputs mean nothing
and are always available. Times are measured from outside: from the injection to the first event that shows the fault, and from
the repair to the first event without a fault. At the end captured must equal used plus dropped, to the sample.

Parallel runs (--jobs) share the faults. The fault that takes a core away disturbs other runs, so it runs last and alone. The
committed figures are in docs/benchmarks/faults.json; they take eight minutes with --jobs 4.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from benchmarks.report import machine, write_json
from moodring.process import limit_arenas
from tests.support.devices.faults import STARVATION, Injection, faults, inject, rig, unaccounted
from tests.support.devices.microphone import SKIP_REASON, SoftwareMicrophone, is_available
from tests.support.signals import voice
from tests.support.tiny_bundle import write_tiny_bundle

MAX_DEGRADED_S, MAX_RECOVERED_S = 2.0, 5.0  # the required times


@dataclass(frozen=True)
class FaultRun:
    """The results of one run with its share of the faults."""

    injections: list[Injection]
    undetected: list[str]  # faults that no event showed, or that did not end, before a timeout
    unaccounted: dict[str, int]
    captured: dict[str, int]
    dropped: dict[str, int]
    used: dict[str, int]


def main(argv: Sequence[str] | None = None) -> int:
    """Inject all faults and write the times of each; return 0, or 1 if there is no simulated microphone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, metavar="N", help="injections of each fault (20)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="parallel runs, each with its share of the faults (1)")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="start no round after this time (60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    if not is_available():
        print(SKIP_REASON, file=sys.stderr)
        return 1
    names = [fault.name for fault in faults() if fault.name != STARVATION]
    shares = [names[job :: arguments.jobs] for job in range(arguments.jobs)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs, context) as pool:
        runs = [*pool.map(_run, [(share, arguments.times, arguments.minutes) for share in shares])]
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:  # a new process
        runs += pool.map(_run, [([STARVATION], arguments.times, arguments.minutes)])
    found = [one for run in runs for one in run.injections]
    write_json(
        {
            "benchmark": "faults",
            "machine": machine(),
            "asked": {"degraded_s": MAX_DEGRADED_S, "recovered_s": MAX_RECOVERED_S},
            "injections": len(found),
            "faults": {name: _summary([one for one in found if one.fault == name]) for name in [*names, STARVATION]},
            "unseen": [one for run in runs for one in run.undetected],
            "runs": [
                {"unaccounted": r.unaccounted, "captured": r.captured, "dropped": r.dropped, "used": r.used} for r in runs
            ],
        },
        arguments.json,
    )
    return 0


def _run(share: tuple[list[str], int, float]) -> FaultRun:
    names, times, minutes = share
    chosen = [fault for fault in faults() if fault.name in names]
    cv2.setNumThreads(1)
    limit_arenas()
    found: list[Injection] = []
    undetected: list[str] = []
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle")
        with SoftwareMicrophone(Path(folder), voice(3.0)) as microphone:
            os.environ.update(microphone.environment)
            with rig(bundle, microphone) as opened:
                for number in range(times):
                    if time.monotonic() > end:
                        break
                    for fault in chosen:
                        try:
                            found.append(inject(opened, fault))
                        except AssertionError as error:
                            undetected.append(f"{fault.name}: {error}")
                    print(f"{', '.join(names)}: {number + 1} of {times}", file=sys.stderr, flush=True)
    stream, used = opened.run.stream, opened.run.pipeline.counters
    return FaultRun(
        found, undetected, unaccounted(opened.run), stream.captured, stream.dropped,
        {"frames_tracked": used.frames_tracked, "samples_heard": used.samples_heard},
    )  # fmt: skip


def _summary(injections: Sequence[Injection]) -> dict[str, Any]:
    degraded = [one.degraded_s for one in injections if one.degraded_s is not None]
    recovered = [one.recovered_s for one in injections]
    return {
        "times": len(injections),
        "degraded_s": _median_and_max(degraded) if degraded else None,
        "recovered_s": _median_and_max(recovered),
        "degraded_too_late": sum(s > MAX_DEGRADED_S for s in degraded),
        "recovered_too_late": sum(s > MAX_RECOVERED_S for s in recovered),
        "longest_gap_between_events_s": max(one.longest_gap_s for one in injections),
        "oldest_used_ms": {name: max(one.max_age_ms[name] for one in injections) for name in ("face", "speech")},
        "wrong": sorted({violation for one in injections for violation in one.violations}),
    }


def _median_and_max(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"median": ordered[len(ordered) // 2], "most": ordered[-1]}
