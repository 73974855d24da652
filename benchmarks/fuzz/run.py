"""Coverage-guided fuzzing of what reads bytes from outside: cameras, configuration, events, bundles, requests, recordings.

usage: python -m benchmarks fuzz [NAME] [--seconds N] [--seed N] [--json FILE]
       python -m benchmarks fuzz NAME --input FILE

Two harnesses run at a time, each in a child process. A finding is an exception that is not documented, a broken rule, a crash
by a signal, an input that takes more than 10 s or more than 2 GB of memory. Its input is kept and its path is printed;
`--input` runs that input alone. The exit code is 1 if there are findings, and 0 where atheris cannot be installed. The
committed figures are in docs/benchmarks/fuzz.json; they take half an hour.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import importlib.util
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.fuzz import harness
from benchmarks.fuzz.harness import HARNESSES
from benchmarks.fuzz.supervisor import Outcome, fuzz
from benchmarks.report import machine, write_json

FOLDER = Path("build") / "fuzz"
MAX_PRINTED_BYTES = 12_000  # of a finding, as base64: the files of a CI machine are lost
NOT_INSTALLED = "atheris is not installed, which has packages for Linux on x86_64 only: nothing was fuzzed"


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz and write the figures; return 0, 1 if there are findings, or if a harness cannot run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=[*HARNESSES], metavar="NAME", help=f"one of {', '.join(HARNESSES)} (all)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="duration of each harness (60)")
    parser.add_argument("--seed", type=int, default=25, metavar="N", help="seed of the mutations (25)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="harnesses at the same time (2)")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help=f"logs, corpora and findings ({FOLDER})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--input", type=Path, metavar="FILE", help="run this input of harness NAME once, and do not fuzz")
    arguments = parser.parse_args(argv)
    if arguments.input is not None:
        if arguments.name is None:
            parser.error("--input needs the NAME of a harness")
        return run_input(arguments.name, arguments.input)
    if importlib.util.find_spec("atheris") is None:
        print(NOT_INSTALLED, file=sys.stderr)
        return int(sys.platform == "linux" and platform.machine() == "x86_64")
    return _fuzz([arguments.name] if arguments.name else [*HARNESSES], arguments, shlex.join(argv or []))


def run_input(name: str, path: Path) -> int:
    """Run one input without atheris. A finding raises its exception; an input without one returns 0."""
    data = path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        harness.make(HARNESSES[name], Path(folder)).check(data)
    print(f"{path}: no finding")
    return 0


def _fuzz(names: Sequence[str], arguments: argparse.Namespace, given: str) -> int:
    def run(name: str) -> Outcome:
        outcome = fuzz(HARNESSES[name], arguments.seconds, arguments.folder.resolve() / name, arguments.seed)
        print("\n".join(_lines(name, outcome)), file=sys.stderr, flush=True)
        return outcome

    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = dict(zip(names, pool.map(run, names), strict=True))
    figures = {
        "benchmark": "fuzz",
        "command": f"python -m benchmarks fuzz {given}".rstrip(),
        "machine": machine(),
        "findings": sum(len(outcome.findings) for outcome in outcomes.values()),
        "harnesses": {name: dataclasses.asdict(outcome) for name, outcome in outcomes.items()},
    }
    write_json(figures, arguments.json)
    return int(any(outcome.findings or outcome.failure for outcome in outcomes.values()))


def _lines(name: str, outcome: Outcome) -> list[str]:
    """Return what is printed of a harness: its findings, each with the command that repeats it, and its counts."""
    lines = []
    for finding in outcome.findings:
        lines += [f"{name}: {finding.kind}: {finding.summary}", f"  python -m benchmarks fuzz {name} --input {finding.path}"]
        data = Path(finding.path).read_bytes()
        if len(data) <= MAX_PRINTED_BYTES:
            lines.append(f"  {base64.b64encode(data).decode()}")
    if outcome.failure:
        lines.append(f"{name}: cannot be fuzzed: {outcome.failure}")
    counts = f"{outcome.executions} inputs in {outcome.seconds:.0f} s, {outcome.edges} edges, {len(outcome.findings)} findings"
    return [*lines, f"{name}: {counts}"]
