"""Name of the processor, and its support for int8 arithmetic."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NATIVE_INT8 = ("vnni", "asimddp")  # x86 and ARM instructions that sum products of int8 in 32 bits


def processor() -> str:
    """Return the machine type and the name of the processor as the system reports them."""
    lines = _read(CPUINFO).splitlines()
    for field in ("model name", "Model", "CPU part"):  # the last two on ARM
        for line in lines:
            if line.startswith(field):
                return f"{platform.machine()} {line.split(':', 1)[1].strip()}"
    return f"{platform.machine()} {platform.processor()}".strip()


@functools.cache
def int8_is_native(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether this processor has instructions for int8 products; their sums are exact."""
    flags = _read(cpuinfo)
    return any(flag in flags for flag in NATIVE_INT8)


def int8_may_overflow(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether this processor sums pairs of int8 products in 16 bits, which saturate: x86 without VNNI."""
    return platform.machine().lower() in ("x86_64", "amd64", "i686") and not int8_is_native(cpuinfo)


def _read(cpuinfo: Path) -> str:
    try:
        return cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
