"""Bytes that a browser loads, and the cost of importing the page server."""

from __future__ import annotations

import importlib.resources
import statistics
import subprocess
import sys
from typing import Any

from tests.support.page import serve_dashboard

IMPORTS = 7
IMPORT_SERVER = """
import time, moodring.run.sinks, moodring.config, numpy, cv2
def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
before, start = rss(), time.process_time()
import moodring.dashboard.opening
print(1000 * (time.process_time() - start), rss() - before)
"""


def measure_weight() -> dict[str, Any]:
    """Return the bytes of each file with its headers, and the CPU time and memory that importing the server adds."""
    static = importlib.resources.files("moodring.dashboard") / "static"
    with serve_dashboard() as page:
        files = {}
        for name in ("", *sorted(file.name for file in static.iterdir() if file.name != "index.html")):
            _, headers, body = page.send_request("GET", f"/{name}")
            files[name or "index.html"] = len(body) + sum(len(key) + len(value) + 4 for key, value in headers.items())
    return {"bytes": files, "bytes_in_all": sum(files.values()), "import": _import_cost()}


def _import_cost() -> dict[str, float]:
    """Return the minimum CPU time and the median memory of several imports, each in a new process."""
    runs = []
    for _ in range(IMPORTS):
        done = subprocess.run([sys.executable, "-c", IMPORT_SERVER], capture_output=True, text=True, check=True)
        runs.append([float(value) for value in done.stdout.split()])
    return {"cpu_ms": round(min(run[0] for run in runs), 1), "rss_mb": round(statistics.median(run[1] for run in runs), 1)}
