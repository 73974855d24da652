"""Cost of the live page, and its behaviour with many clients, stalled clients and attacks.

    python -m benchmarks page [--json FILE] [--only PART,...]

weight    bytes that a browser loads, and the cost of importing the server
clients   CPU time of ten clients at ten events a second
browser   first paint, animation frames and CPU time in Chromium
stopped   clients that stop reading, and their effect on the publishing thread
attacks   DNS rebinding and foreign origins, a body of a gigabyte, slow requests, 10,000 connections
camera    delay until the page in Chromium shows that the camera of a daemon is lost or back

All parts run on the loopback interface of this machine and take three minutes. An existing FILE is updated part by part.
The committed figures are in docs/benchmarks/page.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.page.attacks import measure_attacks
from benchmarks.page.browser import measure_browser, measure_camera_loss
from benchmarks.page.clients import measure_clients, measure_stalled_clients
from benchmarks.page.weight import measure_weight
from benchmarks.report import machine, write_json
from moodring import process

PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "weight": measure_weight,
    "clients": measure_clients,
    "browser": measure_browser,
    "stopped": measure_stalled_clients,
    "attacks": measure_attacks,
    "camera": measure_camera_loss,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all parts, or the chosen ones, and write the figures after each; return 0."""
    process.install()  # SIGTERM also ends the processes started here
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), metavar="PART,...")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    figures = {}
    for name in arguments.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures[name] = {**PARTS[name](), "load_average": os.getloadavg()[0]}
        previous = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
        write_json({**previous, "benchmark": "page", "machine": machine(), **figures}, arguments.json)
    return 0
