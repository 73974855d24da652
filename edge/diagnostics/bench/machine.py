"""The machine of a benchmark: its description, and whether other load, clock changes or throttling disturbed it."""

from __future__ import annotations

import datetime as dt
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from moodring.evaluation.provenance import commit
from moodring.inference.processor import processor

PACKAGES = ("moodring", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "av")
CPUS = Path("/sys/devices/system/cpu")
RAPL = Path("/sys/class/powercap")
COMMIT_DIGITS = 7
BUSY_OTHERS = 0.25  # cores used by other programs from which a run counts as noisy


def describe(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Return processor, cores, frequency governor, package versions, commit and date."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "governor": _text(CPUS / "cpu0/cpufreq/scaling_governor"),
        "packages": {name: found for name in packages if (found := _version(name))},
        "commit": (commit() or "")[:COMMIT_DIGITS] or None,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters of the kernel at one moment; None where the kernel does not provide one."""

    wall_s: float
    own_cpu_s: float  # includes child processes that have ended
    busy_cpu_s: float | None  # all programs, all cores
    stolen_s: float | None  # taken by other virtual machines of the host
    energy_j: float | None
    throttled: int | None
    mhz: float | None

    @classmethod
    def now(cls) -> Snapshot:
        """Return the counters now."""
        busy, stolen = _cpu_seconds()
        return cls(
            wall_s=time.monotonic(), own_cpu_s=_own_cpu_s(), busy_cpu_s=busy, stolen_s=stolen,
            energy_j=_energy_j(), throttled=_throttled(), mhz=_mhz(),
        )  # fmt: skip

    def until(self, later: Snapshot) -> dict[str, Any]:
        """Return the differences between two snapshots. `others_cores` is the number of cores that other programs used."""
        wall_s = later.wall_s - self.wall_s
        others = None
        if self.busy_cpu_s is not None and later.busy_cpu_s is not None:
            others = max(0.0, (later.busy_cpu_s - self.busy_cpu_s - (later.own_cpu_s - self.own_cpu_s)) / wall_s)
        return {
            "seconds": wall_s,
            "others_cores": others,
            "stolen_cores": None
            if self.stolen_s is None or later.stolen_s is None
            else (later.stolen_s - self.stolen_s) / wall_s,
            "watts": None if self.energy_j is None or later.energy_j is None else (later.energy_j - self.energy_j) / wall_s,
            "throttled": None if self.throttled is None or later.throttled is None else later.throttled - self.throttled,
            "mhz": [self.mhz, later.mhz],
        }


def troubles(between: dict[str, Any]) -> list[str]:
    """Return, in words, the disturbances in that time."""
    found = []
    if (between["others_cores"] or 0.0) > BUSY_OTHERS:
        found.append(f"other programs used {between['others_cores']:.1f} cores")
    if (between["stolen_cores"] or 0.0) > BUSY_OTHERS:
        found.append(f"the host withheld {between['stolen_cores']:.1f} cores")
    if between["throttled"]:
        found.append("the processor was throttled")
    return found


def memory_mb() -> dict[str, float]:
    """Return resident memory, now and peak, in MB; empty where the kernel does not provide it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    kb = {line.split(":")[0]: float(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {"rss_mb": kb["VmRSS"] / 1000, "peak_mb": kb["VmHWM"] / 1000}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _mhz() -> float | None:
    speeds = [line for line in (_text(Path("/proc/cpuinfo")) or "").splitlines() if line.startswith("cpu MHz")]
    return float(speeds[0].split(":")[1]) if speeds else None


def _own_cpu_s() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def _cpu_seconds() -> tuple[float | None, float | None]:
    stat = _text(Path("/proc/stat"))
    if stat is None:
        return None, None
    user, nice, system, _, _, irq, softirq, steal = (int(n) / os.sysconf("SC_CLK_TCK") for n in stat.split()[1:9])
    return user + nice + system + irq + softirq, steal


def _energy_j() -> float | None:
    packages = [_text(zone / "energy_uj") for zone in sorted(RAPL.glob("intel-rapl:?"))]
    counted = [int(text) for text in packages if text]
    return sum(counted) / 1e6 if counted else None


def _throttled() -> int | None:
    counts = [_text(path) for path in CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    counted = [int(text) for text in counts if text]
    return sum(counted) if counted else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
