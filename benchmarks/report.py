"""The JSON file of a measurement: the machine that it ran on, and the figures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from moodring.diagnostics.bench.machine import PACKAGES, describe

PEER_PACKAGES = ("python_speech_features", "librosa", "kaldi-native-fbank", "paho-mqtt", "prometheus_client", "pylsl")


def machine() -> dict[str, Any]:
    """Return processor, cores, load, versions, commit and date."""
    load = {"load_average": os.getloadavg()[0], "blas_override": os.environ.get("OPENBLAS_CORETYPE")}
    return describe((*PACKAGES, *PEER_PACKAGES)) | load


def write_json(figures: dict[str, Any], path: Path | None) -> None:
    """Print the figures as JSON, and write them to the file if one is given."""
    text = json.dumps(figures, indent=1)
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
