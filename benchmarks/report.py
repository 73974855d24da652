"""What every benchmark's JSON has in common: the machine it ran on, and how it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from moodring.diagnostics.bench.machine import PACKAGES, describe

PEER_PACKAGES = ("python_speech_features", "librosa", "kaldi-native-fbank", "paho-mqtt", "prometheus_client", "pylsl")


def machine() -> dict[str, Any]:
    """Processor, cores, load, versions, commit and date."""
    load = {"load_average": os.getloadavg()[0], "blas_override": os.environ.get("OPENBLAS_CORETYPE")}
    return describe((*PACKAGES, *PEER_PACKAGES)) | load


def write_json(figures: dict[str, Any], path: Path | None) -> None:
    """Print the figures, and write them where asked."""
    text = json.dumps(figures, indent=1)
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
