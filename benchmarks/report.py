"""What every benchmark's JSON has in common: the machine it ran on, and how it is written."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy", "opencv-python-headless", "onnxruntime", "openvino", "av", "python_speech_features", "librosa",
    "kaldi-native-fbank", "paho-mqtt", "prometheus_client", "pylsl",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, cores, load, versions, commit and date."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "blas_override": os.environ.get("OPENBLAS_CORETYPE"),
        "commit": _commit(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def write_json(figures: dict[str, Any], path: Path | None) -> None:
    """Print the figures, and write them where asked."""
    text = json.dumps(figures, indent=1)
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    run = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return run.stdout.strip() or None
