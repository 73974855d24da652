"""Measure the `fer` package on a folder of JPEG files and print the figures as JSON.

    python fer_package.py FOLDER

run.py beside this file starts it with another Python, in which `fer` is installed and moodring is not.
"""

import json
import resource
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

WARM_UP_FRAMES = 3


def main(folder: Path) -> None:
    import_start_s = time.perf_counter()
    from fer.fer import FER

    detector = FER()
    start_s = time.perf_counter() - import_start_s
    wall_ms, cpu_ms, faces = [], [], 0
    for index, path in enumerate(sorted(folder.glob("*.jpg"))):
        jpeg = path.read_bytes()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        found = detector.detect_emotions(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))
        if index >= WARM_UP_FRAMES:
            cpu_ms.append(1000 * (time.process_time() - cpu_s))
            wall_ms.append(1000 * (time.perf_counter() - wall_s))
            faces += bool(found)
    figures = {
        "version": version("fer"),
        "pictures": len(wall_ms),
        "with_a_face": faces,
        "start_s": start_s,
        "wall_ms": statistics.median(wall_ms),
        "cpu_ms": statistics.median(cpu_ms),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
