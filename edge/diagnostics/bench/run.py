"""`moodring bench`: the CPU cost and latency of the daemon on this machine, as a table and JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from moodring.address import is_pipe
from moodring.capture.camera import Camera, default_camera
from moodring.capture.microphone import Microphone, default_microphone
from moodring.config import Config
from moodring.diagnostics.bench import hot, machine, recording
from moodring.diagnostics.bench import paced as live
from moodring.diagnostics.bench.measured import measured_pipeline
from moodring.diagnostics.bench.table import show
from moodring.errors import MoodringError, UsageError, printable
from moodring.inference import bundle as bundles
from moodring.inference import tuning
from moodring.inference.bundle import Bundle
from moodring.inference.variants import VariantPlan
from moodring.networks import open_networks
from moodring.process import log
from moodring.publish.jsonl import JsonLines
from moodring.run.sources import SAMPLE_CLIP

SCHEMA = 2
STARTS = 3

Peers = Callable[[recording.Recording, Bundle, VariantPlan, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """The command line of `moodring bench`: `seconds` is the length of the paced part."""

    source: str | None = None
    json: Path | None = None
    seconds: float = 20.0
    bundle: str = "default"
    live: bool = False


def bench(options: BenchOptions, peers: Peers | None = None) -> int:
    """Measure, print the table, and write the JSON file if one is named. `peers` measures other implementations as well."""
    cv2.setNumThreads(1)  # as the daemon does
    config = Config()
    bundle = bundles.load(bundles.resolve(options.bundle))
    engine = config.inference
    plan, why = tuning.plan(bundle, engine.backend, engine.precision, engine.threads)
    source = options.source or str(SAMPLE_CLIP)
    if is_pipe(source):
        raise UsageError(f"{printable(source)} is a pipe; the benchmark reads a recording several times: name a file")
    played = recording.load(source)
    log(f"{played.name}: {len(played.jpegs)} frames of {played.size[0]}x{played.size[1]}; about a minute")
    devices = _devices() if options.live else live.played(played)
    before = machine.Snapshot.now()
    fast = hot.measure(source, bundle.path)
    with tempfile.TemporaryDirectory(prefix="moodring-bench-") as folder:
        publisher = JsonLines(str(Path(folder) / "events.jsonl"))
        measured = measured_pipeline(config, bundle, hot.IDENTITY, open_networks(config, bundle, plan))
        paced = live.measure([measured], [devices], publisher, options.seconds)
        publisher.close()
    figures: dict[str, Any] = {
        "benchmark": "bench",
        "schema": SCHEMA,
        "machine": machine.describe(),
        "bundle": bundle.id,
        "networks": {name: str(variant) for name, variant in plan.items()},
        "networks_chosen": why,
        "recording": {"name": Path(played.name).name, "size": played.size, "fps": played.fps, "seconds": played.seconds},
        "devices": "live" if options.live else "played",
        "hot": fast,
        "paced": paced,
        "startup_s": startup_s(),
        "ratios": {f"floor.{name}": value for name, value in fast["ratios"].items()},
    }
    if peers is not None:
        figures["peers"] = peers(played, bundle, plan, fast)
        figures["ratios"] |= {f"peer.{name}": value for name, value in figures["peers"]["ratios"].items()}
    between = before.until(machine.Snapshot.now())
    figures["noise"] = {**between, "troubles": machine.troubles(between)}
    troubles = [*paced["troubles"], *figures.get("peers", {}).get("troubles", []), *figures["noise"]["troubles"]]
    figures["troubles"] = list(dict.fromkeys(troubles))
    figures["noisy"] = bool(fast["noisy"] or troubles)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    show(figures)
    return 0


def _devices() -> live.Devices:
    camera, microphone = default_camera(), default_microphone()
    if camera is None:
        raise UsageError("--live needs a camera, and this machine has none; without --live a recording is played")
    return Camera(camera), Microphone("default") if microphone else None


def startup_s() -> dict[str, float]:
    """Return the time from process start to the first event in s, over several starts with warm file caches."""
    command = [
        sys.executable,
        "-m",
        "moodring.cli",
        "run",
        str(SAMPLE_CLIP),
        "--seconds",
        "0.4",
        "--pace",
        "max",
        "--events",
        "-",
    ]
    times = []
    for _ in range(STARTS):
        started_s = time.monotonic()
        with subprocess.Popen(  # noqa: S603  this program itself
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            line = process.stdout.readline() if process.stdout else b""
            times.append(time.monotonic() - started_s)
        if not line:
            raise MoodringError("`moodring run` published no event on the bundled clip; run it to see why")
    return {"p50": statistics.median(times), "max": max(times)}
