"""Load time and memory of one file of a network, measured in a process of its own.

usage: python -m moodring.inference.cost BUNDLE_DIR NETWORK FILE BACKEND THREADS

Prints JSON: `load_ms` (median), and `rss_mb`, the resident memory of the process including Python, NumPy and the backend.
"""

from __future__ import annotations

import importlib
import json
import resource
import statistics
import sys
import time
from pathlib import Path

from moodring.inference.bundle import BackendName, load
from moodring.inference.measure import random_inputs
from moodring.inference.variants import BACKEND_PACKAGES, BACKENDS

LOADS = 3
BYTES_PER_MB = 1e6


def cost(folder: Path, network: str, file: str, backend: BackendName, threads: int) -> dict[str, float]:
    """Load one file of a network `LOADS` times; return the median `load_ms`, and `rss_mb` after the first load and call."""
    bundle = load(folder, required=(network,))
    importlib.import_module(BACKEND_PACKAGES[backend])  # not counted as load time of the network
    importlib.import_module(f"moodring.inference.{backend}")
    times_ms, rss_mb = [], 0.0
    for index in range(LOADS):
        start_s = time.perf_counter()
        model = bundle.open_file(network, folder / file, backend, threads)
        times_ms.append(1000 * (time.perf_counter() - start_s))
        model.run(random_inputs(bundle.models[network].inputs))
        if index == 0:
            rss_mb = resident_mb()
    return {"load_ms": statistics.median(times_ms), "rss_mb": rss_mb}


def resident_mb() -> float:
    """Return the resident memory of this process in MB; its maximum so far on systems that do not report the present value."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / BYTES_PER_MB
    return pages * resource.getpagesize() / BYTES_PER_MB


def main(arguments: list[str]) -> int:
    backend = next((name for name in BACKENDS if arguments[3:4] == [name]), None)
    if len(arguments) != 5 or backend is None:
        print(__doc__, file=sys.stderr)
        return 2
    folder, network, file, _, threads = arguments
    print(json.dumps(cost(Path(folder), network, file, backend, int(threads))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
