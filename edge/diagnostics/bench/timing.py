"""Durations of stages, their quantiles, and the spread of repeated measurements."""

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
    """The duration of each call of one stage: wall time and CPU time of its thread, in ns."""

    wall_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)

    def record(self, wall_ns: int, cpu_ns: int) -> None:
        """Record one call."""
        self.wall_ns.append(wall_ns)
        self.cpu_ns.append(cpu_ns)

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes the call and records its time."""

        def run(*arguments: Any) -> Any:
            cpu_ns, wall_ns = time.thread_time_ns(), time.perf_counter_ns()
            result = call(*arguments)
            wall_ns, cpu_ns = time.perf_counter_ns() - wall_ns, time.thread_time_ns() - cpu_ns
            self.record(wall_ns, cpu_ns)
            return result

        return run

    def add(self, wall_ns: int, cpu_ns: int) -> None:
        """Add to the newest call, if there is one: another thread may just have ended the warm-up."""
        for durations_ns, more_ns in ((self.wall_ns, wall_ns), (self.cpu_ns, cpu_ns)):
            if durations_ns:
                durations_ns[-1] += more_ns

    def subtract(self, other: Stage) -> None:
        """Subtract the newest call of a stage that ran inside this one, if both have one."""
        for mine, others in ((self.wall_ns, other.wall_ns), (self.cpu_ns, other.cpu_ns)):
            if mine and others:
                mine[-1] = max(0, mine[-1] - others[-1])

    def figures(self) -> dict[str, Any]:
        """Return the number of calls, quantiles of both times in us, and the total CPU time in s."""
        return {
            "calls": len(self.wall_ns),
            "wall_us": quantiles_us(self.wall_ns),
            "cpu_us": quantiles_us(self.cpu_ns),
            "cpu_us_mean": sum(self.cpu_ns) / max(1, len(self.cpu_ns)) / NS_PER_US,
            "cpu_s": sum(self.cpu_ns) / 1e9,
        }

    def clear(self) -> None:
        """Drop all calls so far: they were warm-up."""
        self.wall_ns.clear()
        self.cpu_ns.clear()


def quantiles_us(durations_ns: Sequence[int]) -> dict[str, float]:
    """Return p50, p95, p99 and max in us; an empty dictionary where there are no durations."""
    if not durations_ns:
        return {}
    return {name: float(np.percentile(durations_ns, q)) / NS_PER_US for name, q in QUANTILES.items()}


def spread(values: Sequence[float]) -> float:
    """Return (max - min) / median of the values; infinite for fewer than two."""
    return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 else float("inf")
