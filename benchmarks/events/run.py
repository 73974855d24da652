"""Delivery of events through a real Mosquitto that fails, and the cost of the sinks.

    python -m benchmarks events soak [--events 100000] [--broker-kills 10] [--daemon-kills 5] [--json FILE]
    python -m benchmarks events outage [--minutes 10] [--json FILE]
    python -m benchmarks events overhead [--seconds 60] [--json FILE]

soak      kills the broker and the publishing process with SIGKILL at random times (--broker-signal TERM stops the broker
          normally). Every event that was reported as published must arrive, in order within its source. Duplicates must have
          the same id.
outage    runs `moodring run` on a simulated camera at 5 Hz, stops the broker for some minutes and starts it again.
overhead  CPU time and memory of a process that publishes at 10 Hz to all sinks, minus those of one that publishes to none.

The committed figures are in docs/benchmarks/events_{soak,outage,overhead}.json; all three take 20 minutes.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.events import outage, overhead, publisher, soak
from benchmarks.report import machine, write_json
from moodring import process


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part and write its figures; return 0. `publish` and `tick` are the processes that the parts start."""
    process.install()  # SIGTERM also ends the processes started here
    arguments = _parser().parse_args(argv)
    if arguments.part == "publish":
        publisher.publish_events(arguments.count, arguments.port, arguments.folder, arguments.run)
    elif arguments.part == "tick":
        overhead.measure_sink_cost(arguments.target, arguments.seconds, arguments.port, arguments.folder)
    else:
        write_json({"benchmark": f"events_{arguments.part}", "machine": machine()} | _measure(arguments), arguments.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks events", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="soak|outage|overhead")
    options: dict[str, dict[str, int | float]] = {
        "soak": {"events": 100_000, "broker-kills": 10, "daemon-kills": 5, "seed": 0},
        "outage": {"minutes": 10.0},
        "overhead": {"seconds": 60.0},
    }
    for part, defaults in options.items():
        command = parts.add_parser(part)
        for option, default in defaults.items():
            command.add_argument(f"--{option}", type=type(default), default=default, metavar="N", help=f"({default})")
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
        if part == "soak":
            command.add_argument("--broker-signal", choices=("TERM", "KILL"), default="KILL")
    positional: dict[str, dict[str, Callable[[str], Any]]] = {
        "publish": {"count": int, "port": int, "folder": Path, "run": int},
        "tick": {"target": str, "seconds": float, "port": int, "folder": Path},
    }
    for part, kinds in positional.items():
        command = parts.add_parser(part)
        for name, kind in kinds.items():
            command.add_argument(name, type=kind)
    return parser


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.part == "soak":
        broker_signal = signal.Signals[f"SIG{arguments.broker_signal}"]
        kills = soak.Kills(arguments.broker_kills, arguments.daemon_kills, arguments.seed, broker_signal)
        return soak.measure(arguments.events, kills)
    if arguments.part == "outage":
        return outage.measure(arguments.minutes)
    return overhead.measure(arguments.seconds)
