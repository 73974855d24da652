"""What becomes of a live run when its devices and stages fail, over and over?

    python -m benchmarks.faults [--times 20] [--json FILE]

Injects every fault of tests/support/faults.py so many times, in turn, into one run: real processes are killed and frozen,
real bytes are garbage, a core is really taken away. The run is on a bundle of random networks, whose answers mean nothing
and are always there. Measured from outside: from the injection to the first event that shows it, from the restoration to the
first event in which all is well. In the end captured must equal used and dropped, to the sample.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from benchmarks.report import machine, write_json
from edge.memory import limit_arenas
from tests.support.faults import Injection, bench, faults, inject, unaccounted
from tests.support.microphone import REASON, SoftwareMicrophone, available
from tests.support.signals import voice
from tests.support.tiny_bundle import write_tiny_bundle

DEGRADED_S, RECOVERED_S = 2.0, 5.0  # what is asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not available():
        sys.exit(REASON)
    cv2.setNumThreads(1)
    limit_arenas()
    found: list[Injection] = []
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle")
        with SoftwareMicrophone(Path(folder), voice(3.0)) as microphone:
            os.environ.update(microphone.environment)
            with bench(bundle, microphone) as on:
                for round_number in range(arguments.times):
                    found += [inject(on, fault) for fault in faults()]
                    print(f"{round_number + 1} of {arguments.times} rounds", file=sys.stderr, flush=True)
    names = dict.fromkeys(one.fault for one in found)
    stream, used = on.run.stream, on.run.pipeline.counters
    write_json(
        {
            "benchmark": "faults",
            "machine": machine(),
            "asked": {"degraded_s": DEGRADED_S, "recovered_s": RECOVERED_S},
            "injections": len(found),
            "faults": {name: _summary([one for one in found if one.fault == name]) for name in names},
            "unaccounted": unaccounted(on.run),
            "captured": stream.captured,
            "dropped": stream.dropped,
            "used": {"frames_tracked": used.frames_tracked, "samples_heard": used.samples_heard},
        },
        arguments.json,
    )


def _summary(injections: Sequence[Injection]) -> dict[str, Any]:
    degraded = [one.degraded_s for one in injections if one.degraded_s is not None]
    recovered = [one.recovered_s for one in injections]
    return {
        "times": len(injections),
        "degraded_s": _spread(degraded) if degraded else None,
        "recovered_s": _spread(recovered),
        "degraded_too_late": sum(s > DEGRADED_S for s in degraded),
        "recovered_too_late": sum(s > RECOVERED_S for s in recovered),
        "longest_gap_between_events_s": max(one.longest_gap_s for one in injections),
        "oldest_used_ms": {name: max(one.oldest_ms[name] for one in injections) for name in ("face", "speech")},
        "wrong": sorted({wrong for one in injections for wrong in one.wrong}),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"median": ordered[len(ordered) // 2], "most": ordered[-1]}


if __name__ == "__main__":
    main()
