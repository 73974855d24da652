"""What the processor is, and what int8 is worth on it."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NATIVE_INT8 = ("vnni", "asimddp")  # the instructions of x86 and of ARM that add products of int8 in 32 bits


def processor() -> str:
    """Name the processor as the system does."""
    lines = _read(CPUINFO).splitlines()
    for wanted in ("model name", "Model", "CPU part"):  # the last two on ARM
        for line in lines:
            if line.startswith(wanted):
                return f"{platform.machine()} {line.split(':', 1)[1].strip()}"
    return f"{platform.machine()} {platform.processor()}".strip()


@functools.cache
def int8_is_native(cpuinfo: Path = CPUINFO) -> bool:
    """Say whether this processor multiplies int8 in instructions of its own: sums are then exact."""
    flags = _read(cpuinfo)
    return any(flag in flags for flag in NATIVE_INT8)


def int8_may_overflow(cpuinfo: Path = CPUINFO) -> bool:
    """Say whether this processor adds pairs of int8 products in 16 bits, where sums can be cut off: x86 without VNNI."""
    return platform.machine().lower() in ("x86_64", "amd64", "i686") and not int8_is_native(cpuinfo)


def _read(cpuinfo: Path) -> str:
    try:
        return cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
