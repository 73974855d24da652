"""Subcommands about this machine: devices, doctor, bench, service."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

from moodring.arguments import frozen, positive
from moodring.cli.lazy import lazy


def add_devices(commands: Any) -> None:
    devices = commands.add_parser(
        "devices",
        help="list the cameras and microphones of this machine",
        description="List cameras and microphones, their names for --video and --audio, and why some cannot be used.",
    )
    devices.add_argument("--json", action="store_true", help="print them as JSON")
    devices.set_defaults(command=lambda a: lazy("diagnostics.devices").main(as_json=a.json))


def add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check what works on this machine and how to repair the rest",
        description="Check devices, libraries, cascade, bundle, backends and permissions.",
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the bundled one)")
    doctor.add_argument(
        "--tune",
        action="store_true",
        help="find the fastest variant of each network on this machine, for `inference.backend: auto`",
    )
    doctor.set_defaults(command=lambda a: lazy("diagnostics.doctor").main(json=a.json, bundle=a.bundle, tuned=a.tune))


def add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure CPU cost and latency on this machine",
        description="Measure each stage and the whole chain on this machine, offline, in about a minute.",
        epilog="Stages: decode (JPEG to grey), detect (track the known faces), search (scan a part of the frame for new faces; "
        "few frames need it), crop (the remaining work on a frame), face (its network), mfcc (cepstra and voice activity of "
        "0.1 s of sound), speech (its network on 3 s), fusion, publish (one line of JSON). CPU is thread CPU time in "
        "microseconds a call. hot: at full speed, with warm caches. paced: in real time, through the daemon's threads, with "
        "cold caches. floor: the kernel baseline, the bare library calls; ratios are relative to their sum. answered: from "
        "the capture of a frame to its face output. An event is published at the next tick, five a second. Warm-up is left "
        "out. Processes are measured until the last three agree within 10 % on every ratio; otherwise, or when other "
        "programs used the CPU or the thirds of the paced part differ, the figures are marked as noisy. Compare ratios, not "
        "microseconds, between machines and days.",
    )
    bench.add_argument("source", nargs="?", metavar="SOURCE", help="media file that shows a face (default: the bundled clip)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    bench.add_argument("--seconds", type=positive, default=20.0, metavar="N", help="duration of the paced part (20)")
    bench.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the bundled one)")
    bench.add_argument("--live", action="store_true", help="use the camera and microphone of this machine for the paced part")
    bench.add_argument("--peers", action="store_true", help="also measure other implementations (extra: bench)")
    bench.set_defaults(command=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    run = lazy("diagnostics.bench.run")
    peers = None
    if arguments.peers:
        peers = functools.partial(lazy("diagnostics.peers.run").measure, _eager_calls)
    return int(run.bench(frozen(run.BenchOptions, arguments), peers))


def _eager_calls(spec: Any) -> Any:
    """Return the calls of the networks in PyTorch, which is a peer as well. The benchmark reports it where it is missing."""
    return lazy("export.eager").eager_calls(spec)


def add_service(commands: Any) -> None:
    service = commands.add_parser(
        "service",
        help="run as a systemd service",
        description="Install, query or remove moodring as a hardened systemd service that starts at every boot.",
    )
    service.add_argument("action", choices=("install", "status", "remove"))
    service.add_argument("--config", type=Path, metavar="FILE", help="configuration of the service")
    service.set_defaults(command=_service)


def _service(arguments: argparse.Namespace) -> int:
    unit = lazy("service.unit")
    if arguments.action == "install":
        return int(unit.install(arguments.config))
    return int(unit.status() if arguments.action == "status" else unit.remove())
