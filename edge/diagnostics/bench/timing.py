"""Durations by stage, and whether what was measured can be believed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NS_PER_US = 1000
QUANTILES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
NOISY_SPREAD = 0.10  # of a ratio over the last samples


@dataclass(slots=True)
class Stage:
    """What one stage took, call by call: wall time, and CPU time of the thread that it ran in, in nanoseconds."""

    wall_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call with its time taken."""

        def run(*arguments: Any) -> Any:
            cpu_ns, wall_ns = time.thread_time_ns(), time.perf_counter_ns()
            result = call(*arguments)
            wall_ns, cpu_ns = time.perf_counter_ns() - wall_ns, time.thread_time_ns() - cpu_ns
            self.wall_ns.append(wall_ns)
            self.cpu_ns.append(cpu_ns)
            return result

        return run

    def skip(self) -> None:
        """Count a call that was not made: it took no time."""
        self.wall_ns.append(0)
        self.cpu_ns.append(0)

    def append(self, other: Stage) -> None:
        """Take over another's newest call; nothing where it has none."""
        if other.wall_ns and other.cpu_ns:
            self.wall_ns.append(other.wall_ns[-1])
            self.cpu_ns.append(other.cpu_ns[-1])

    def add(self, other: Stage) -> None:
        """Count another's newest call to the newest one here; nothing where either has none."""
        for mine, others in ((self.wall_ns, other.wall_ns), (self.cpu_ns, other.cpu_ns)):
            if mine and others:
                mine[-1] += others[-1]

    def subtract(self, other: Stage) -> None:
        """Take another's newest call out of the newest one here, in which it was made.

        Where either has none, another thread has just ended the warm-up.
        """
        for mine, others in ((self.wall_ns, other.wall_ns), (self.cpu_ns, other.cpu_ns)):
            if mine and others:
                mine[-1] = max(0, mine[-1] - others[-1])

    def figures(self) -> dict[str, Any]:
        """Return calls, quantiles of both times in microseconds, and the CPU seconds of all calls."""
        return {
            "calls": len(self.wall_ns),
            "wall_us": quantiles_us(self.wall_ns),
            "cpu_us": quantiles_us(self.cpu_ns),
            "cpu_us_mean": sum(self.cpu_ns) / max(1, len(self.cpu_ns)) / NS_PER_US,
            "cpu_s": sum(self.cpu_ns) / 1e9,
        }

    def clear(self) -> None:
        """Forget what was taken so far: it was warm-up."""
        self.wall_ns.clear()
        self.cpu_ns.clear()


def quantiles_us(durations_ns: Sequence[int]) -> dict[str, float]:
    """Return p50, p95, p99 and max in microseconds; nothing where nothing was measured."""
    if not durations_ns:
        return {}
    return {name: float(np.percentile(durations_ns, q)) / NS_PER_US for name, q in QUANTILES.items()}


def spread(values: Sequence[float]) -> float:
    """Return how far values lie apart: (most - least) / median; infinite for fewer than two."""
    return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 else float("inf")
