"""A harness with faults of every kind, each behind an input of its own."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from benchmarks.fuzz.harness import Harness
from moodring.redaction import without_credentials


def make(_folder: Path) -> Harness:
    """Return the harness. Its seeds contain the faults that the environment variable names."""

    def check(data: bytes) -> None:
        without_credentials("x")  # instrumented
        if data == b"exception":
            raise KeyError(data)
        if data == b"signal":
            os.kill(os.getpid(), signal.SIGSEGV)
        if data == b"killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if data == b"hang":
            time.sleep(30)

    def mutate(data: bytes, _rng: random.Random) -> bytes:
        raise KeyError("the mutator")

    planted = os.environ["MOODRING_PLANTED"]
    seeds = [b"sound", *planted.encode().split()]
    return Harness(check, seeds, mutate=mutate if planted == "mutator" else None, max_bytes=16)
