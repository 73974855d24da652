"""Installation on a 64-bit ARM board: download every wheel that the dependencies of the runtime resolve to.

    python -m benchmarks aarch64 [--json FILE] [--python 3.11]

The wheels are not run, so this measures nothing about their speed on a board. It needs pip and a network. The exit code is 1
if the dependencies of the runtime do not resolve. The committed figures are in docs/benchmarks/aarch64.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_json

ROOT = Path(__file__).resolve().parents[1]
# The tags up to glibc 2.36: Debian 12, and Raspberry Pi OS since 2023.
PLATFORMS = (
    "manylinux_2_35_aarch64",
    "manylinux_2_34_aarch64",
    "manylinux_2_31_aarch64",
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
EXTRAS = ("openvino", "mqtt", "metrics")  # PyAudio is compiled on the board; pylsl has wheels of its own for ARM


def resolve(requirements: list[str], python: str, folder: Path) -> dict[str, Any]:
    """Download the wheels that the requirements resolve to for ARM; return their names and total size, or the error of pip."""
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, *platforms, "--dest", str(folder), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return {"resolves": False, "why": errors[-1] if errors else done.stderr.strip()}
    wheels = sorted(folder.glob("*.whl"))
    return {
        "resolves": True,
        "megabytes": round(sum(wheel.stat().st_size for wheel in wheels) / 1e6, 1),
        "for_arm": [wheel.name for wheel in wheels if "aarch64" in wheel.name],
        "for_any": [wheel.name for wheel in wheels if "aarch64" not in wheel.name],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the wheels of the runtime and of each extra; return 1 if the runtime does not resolve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks aarch64", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--python", default="3.11", metavar="VERSION", help="Python of the board (3.11)")
    arguments = parser.parse_args(argv)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {"runtime": project["dependencies"]}
    wanted |= {f"extra {name}": project["optional-dependencies"][name] for name in EXTRAS}
    found = {}
    for name, requirements in wanted.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = resolve(requirements, arguments.python, Path(folder))
    what = "wheels for 64-bit ARM Linux (glibc); downloaded, not run"
    write_json({"what": what, "python": arguments.python, "machine": machine(), **found}, arguments.json)
    return 0 if found["runtime"]["resolves"] else 1
