"""What one form of one network costs a process of its own: time to load, and resident memory with it loaded and run.

usage: python -m moodring.inference.cost BUNDLE_DIR NETWORK FILE ENGINE THREADS

Prints JSON: load_ms, and rss_mb with Python, NumPy and the engine among it.
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

LOADS = 3
BYTES_PER_MB = 1e6
ENGINES: dict[str, BackendName] = {"onnx": "onnx", "openvino": "openvino"}


def cost(folder: Path, network: str, file: str, engine: BackendName, threads: int) -> dict[str, float]:
    """Load one file of a bundle's network several times; return the median load_ms, and rss_mb after the first."""
    bundle = load(folder, required=(network,))
    importlib.import_module({"onnx": "onnxruntime", "openvino": "openvino"}[engine])  # not part of loading a network
    importlib.import_module(f"moodring.inference.{engine}")
    times_ms, rss_mb = [], 0.0
    for index in range(LOADS):
        start_s = time.perf_counter()
        model = bundle.open_file(network, folder / file, engine, threads)
        times_ms.append(1000 * (time.perf_counter() - start_s))
        model.run(random_inputs(bundle.models[network].inputs))
        if index == 0:
            rss_mb = resident_mb()
    return {"load_ms": statistics.median(times_ms), "rss_mb": rss_mb}


def resident_mb() -> float:
    """Return this process's resident memory; where the system does not tell, the most it ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / BYTES_PER_MB
    return pages * resource.getpagesize() / BYTES_PER_MB


def main(arguments: list[str]) -> int:
    if len(arguments) != 5 or arguments[3] not in ENGINES:
        print(__doc__, file=sys.stderr)
        return 2
    folder, network, file, engine, threads = arguments
    print(json.dumps(cost(Path(folder), network, file, ENGINES[engine], int(threads))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
