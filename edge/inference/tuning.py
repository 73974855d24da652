"""Which form is fastest on this machine: measured once by `moodring doctor --tune`, remembered in the user's cache folder.

What is remembered holds for one bundle, one processor, one set of library versions and one number of threads.
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

from moodring.inference.bundle import Bundle
from moodring.inference.measure import Timing, measure
from moodring.inference.processor import processor
from moodring.inference.variants import (
    BackendChoice,
    NetworkVariant,
    PrecisionChoice,
    VariantPlan,
    available_variants,
    default_plan,
    fastest_plan,
    fixed_plan,
)

SAMPLES = 60  # paced calls of each form: three networks take twelve seconds
ENGINES = ("onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class TuningResult:
    """What was measured: median paced milliseconds by network and form, and on which day."""

    paced_ms: dict[str, dict[NetworkVariant, float]]
    date: str


def tune(bundle: Bundle, threads: int = 1) -> dict[str, dict[NetworkVariant, Timing]]:
    """Measure every form of every network that this machine can run, and remember the result."""
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
        name: [{**dataclasses.asdict(variant), "paced_ms": timing.paced_ms.p50} for variant, timing in by_form.items()]
        for name, by_form in timings.items()
    }
    document = {"key": machine_key(bundle, threads), "date": dt.datetime.now(dt.UTC).date().isoformat(), "measured": paced}
    path = cache_path(bundle, threads)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return timings


def load_result(bundle: Bundle, threads: int = 1) -> TuningResult | None:
    """Return what was measured here for this bundle; None where nothing was, or what there is cannot be read."""
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
    except (OSError, ValueError, KeyError, TypeError):
        return None


def plan(bundle: Bundle, backend: BackendChoice, precision: PrecisionChoice, threads: int = 1) -> tuple[VariantPlan, str]:
    """Return the form of each network to run, and in words why."""
    if "auto" not in (backend, precision):
        return fixed_plan(bundle, backend, precision), "pinned by the configuration"
    tuned = load_result(bundle, threads)
    chosen = fastest_plan(tuned.paced_ms, backend, precision) if tuned else None
    if tuned is None or chosen is None:
        return default_plan(bundle, backend, precision), "not measured here yet: moodring doctor --tune"
    return chosen, f"the fastest here, measured {tuned.date}"


def describe(plan: VariantPlan) -> str:
    """Return a plan in words, such as `face onnx int8, speech onnx int8, fusion onnx fp32`."""
    return ", ".join(f"{name} {variant}" for name, variant in plan.items())


def cache_path(bundle: Bundle, threads: int) -> Path:
    """Return where the measurements of this bundle on this machine are remembered; XDG_CACHE_HOME moves it."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    digest = hashlib.sha256(json.dumps(machine_key(bundle, threads), sort_keys=True).encode()).hexdigest()
    return Path(base).expanduser() / "moodring" / f"forms-{digest[:16]}.json"


def machine_key(bundle: Bundle, threads: int) -> dict[str, Any]:
    """Return all that a measurement depends on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in ENGINES},
        "bundle": bundle.id,
        "threads": threads,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
