"""Fastest variant of each network on this machine. `moodring doctor --tune` measures it and writes it to the user's cache.

A result applies to one bundle, one processor, one set of library versions and one number of threads.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from moodring.errors import UsageError
from moodring.folders import cache_dir
from moodring.inference.bundle import Bundle
from moodring.inference.measure import Timing, measure
from moodring.inference.processor import processor
from moodring.inference.variants import (
    BACKEND_PACKAGES,
    BackendChoice,
    NetworkVariant,
    PrecisionChoice,
    VariantPlan,
    available_variants,
    default_plan,
    fastest_plan,
    fixed_plan,
)

SAMPLES = 60  # paced calls of each variant; three networks take twelve seconds


@dataclass(frozen=True, slots=True)
class TuningResult:
    """Median latency of paced calls in ms by network and variant, and the date of the measurement (UTC)."""

    paced_ms: dict[str, dict[NetworkVariant, float]]
    date: str


def tune(bundle: Bundle, threads: int = 1) -> dict[str, dict[NetworkVariant, Timing]]:
    """Measure every variant of every network that this machine can run, and write the result to `cache_path`.

    Raises UsageError, before the measurement, if the result cannot be stored.
    """
    path = prepare_cache(bundle, threads)
    timings = {
        name: measure(
            {
                variant: bundle.open(name, variant.precision, variant.backend, threads)
                for variant in available_variants(bundle, name)
            },
            info.inputs,
            SAMPLES,
        )
        for name, info in bundle.models.items()
    }
    paced = {
        name: [{**dataclasses.asdict(variant), "paced_ms": timing.paced_ms.p50} for variant, timing in by_variant.items()]
        for name, by_variant in timings.items()
    }
    document = {"key": machine_key(bundle, threads), "date": dt.datetime.now(dt.UTC).date().isoformat(), "measured": paced}
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return timings


def prepare_cache(bundle: Bundle, threads: int = 1) -> Path:
    """Create the folder of the result and return `cache_path`. Raises UsageError if the folder cannot be written."""
    path = cache_path(bundle, threads)
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "Permission denied"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise UsageError(f"the result cannot be stored in {folder}: {reason}; change its permissions or set XDG_CACHE_HOME")
    return path


def load_result(bundle: Bundle, threads: int = 1) -> TuningResult | None:
    """Return the result for this bundle on this machine, or None if there is none or it cannot be read."""
    try:
        document = json.loads(cache_path(bundle, threads).read_text(encoding="utf-8"))
        if document["key"] != machine_key(bundle, threads):
            return None
        paced = {
            name: {
                NetworkVariant(entry["backend"], entry["precision"]): float(entry["paced_ms"])
                for entry in document["measured"][name]
            }
            for name in bundle.models
        }
        return TuningResult(paced, str(document["date"]))
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        return None


def plan(bundle: Bundle, backend: BackendChoice, precision: PrecisionChoice, threads: int = 1) -> tuple[VariantPlan, str]:
    """Return the variant of each network to run, and the reason for this choice in words."""
    if "auto" not in (backend, precision):
        return fixed_plan(bundle, backend, precision), "set by the configuration"
    tuned = load_result(bundle, threads)
    chosen = fastest_plan(tuned.paced_ms, backend, precision) if tuned else None
    if tuned is None or chosen is None:
        return default_plan(bundle, backend, precision), "not measured on this machine yet; run moodring doctor --tune"
    return chosen, f"fastest on this machine, measured {tuned.date}"


def describe(plan: VariantPlan) -> str:
    """Return a plan in words, for example `face onnx int8, speech onnx int8, fusion onnx fp32`."""
    return ", ".join(f"{name} {variant}" for name, variant in plan.items())


def cache_path(bundle: Bundle, threads: int) -> Path:
    """Return the file of the result for this bundle on this machine. Raises UsageError without a home directory."""
    digest = hashlib.sha256(json.dumps(machine_key(bundle, threads), sort_keys=True).encode()).hexdigest()
    return cache_dir() / f"forms-{digest[:16]}.json"


def machine_key(bundle: Bundle, threads: int) -> dict[str, Any]:
    """Return everything that a measurement depends on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in BACKEND_PACKAGES.values()},
        "bundle": bundle.id,
        "threads": threads,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
