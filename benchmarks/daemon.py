"""A `moodring run` that is measured from outside: start it with its page, and read its resources from /proc."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PAGE_ADDRESS = re.compile(r"page on (http://\S+)")


@contextlib.contextmanager
def run_with_page(config: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run moodring with its page on a free port; yield the address of the page. `environment` adds variables."""
    command = [sys.executable, "-m", "moodring.cli", "run", "--config", str(config), "--page-port", "0"]
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    try:
        for line in process.stderr or ():
            log.append(line)
            if found := PAGE_ADDRESS.search(line):
                yield found[1]
                break
        else:
            raise RuntimeError(f"moodring ended without opening its page: {''.join(log).strip()[-500:]}")
    finally:
        process.terminate()
        process.communicate(timeout=30)


def read_process_stats(pid: int) -> dict[str, float]:
    """Return the CPU time so far, the resident memory, and the number of threads and open files of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    ticks_hz, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu_s": (int(fields[11]) + int(fields[12])) / ticks_hz,
        "threads": int(fields[17]),
        "rss_mb": int(fields[21]) * page_bytes / 1e6,
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }
