"""Choice of the variant (backend and precision) of each network: as configured, or the fastest of those measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from moodring.inference.bundle import BackendName, Bundle, Precision
from moodring.inference.measure import FRAME_RATE_HZ
from moodring.inference.processor import int8_is_native

BackendChoice = Literal["auto", BackendName]
PrecisionChoice = Literal["auto", Precision]

BACKENDS: Final[tuple[BackendName, ...]] = get_args(BackendName)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
BACKEND_PACKAGES: Final[dict[BackendName, str]] = {"onnx": "onnxruntime", "openvino": "openvino"}
NETWORK_RATES_HZ = {"face": FRAME_RATE_HZ, "speech": 2.0, "fusion": 5.0}  # of calls in a run with the default configuration
# Loading OpenVINO costs memory. It must take less than this share of ONNX Runtime's time to be chosen.
MAX_OPENVINO_TIME_RATIO = 0.95


@dataclass(frozen=True, slots=True)
class NetworkVariant:
    """A backend and a precision in which a network can run."""

    backend: BackendName
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


VariantPlan = dict[str, NetworkVariant]  # by network
PacedTimings = Mapping[str, Mapping[NetworkVariant, float]]  # by network and variant: median latency of paced calls in ms

DEFAULT_VARIANT = NetworkVariant("onnx", "fp32")  # every bundle contains it, and it runs on every machine


def is_installed(backend: BackendName) -> bool:
    """Return whether a backend is installed, without loading it."""
    return importlib.util.find_spec(BACKEND_PACKAGES[backend]) is not None


def available_variants(bundle: Bundle, name: str) -> list[NetworkVariant]:
    """Return the variants of one network that can run on this machine."""
    installed = [backend for backend in BACKENDS if is_installed(backend)]
    info = bundle.models[name]
    return [NetworkVariant(backend, p) for backend in installed for p in PRECISIONS if p in info.precisions(backend)]


def resolve_auto(backend: BackendChoice, precision: PrecisionChoice) -> tuple[BackendName, Precision]:
    """Replace `auto` by ONNX Runtime and float32, for results that do not depend on the machine."""
    return (
        DEFAULT_VARIANT.backend if backend == "auto" else backend,
        DEFAULT_VARIANT.precision if precision == "auto" else precision,
    )


def fixed_plan(bundle: Bundle, backend: BackendChoice, precision: PrecisionChoice) -> VariantPlan:
    """Return the same variant for every network of a bundle."""
    return dict.fromkeys(bundle.models, NetworkVariant(*resolve_auto(backend, precision)))


def default_plan(bundle: Bundle, backend: BackendChoice, precision: PrecisionChoice) -> VariantPlan:
    """Return the plan for a machine without measurements: as configured, but int8 for the branches if it is likely faster.

    On an x86 processor with int8 instructions, int8 branches took half the time of float32 in ONNX Runtime. The fusion network
    is too small to gain.
    """
    plan = fixed_plan(bundle, backend, precision)
    if precision == "auto" and backend != "openvino" and int8_is_native():
        int8: Precision = "int8"
        names = [name for name in plan if name != "fusion" and int8 in bundle.models[name].precisions(DEFAULT_VARIANT.backend)]
        plan |= dict.fromkeys(names, NetworkVariant(DEFAULT_VARIANT.backend, int8))
    return plan


def fastest_plan(measured: PacedTimings, backend: BackendChoice, precision: PrecisionChoice) -> VariantPlan | None:
    """Return the fastest variant of each network that the configuration allows, or None if a network has none.

    All networks run in one backend, because each loaded backend costs memory. OpenVINO is chosen only if it is faster by more
    than the difference between two measurements of the same variant.
    """
    plans: dict[BackendName, tuple[float, VariantPlan]] = {}
    for candidate in BACKENDS if backend == "auto" else (backend,):
        plan: VariantPlan = {}
        busy_ms = 0.0
        for name, timings in measured.items():
            allowed = {v: ms for v, ms in timings.items() if v.backend == candidate and precision in ("auto", v.precision)}
            if not allowed:
                break
            plan[name] = min(allowed, key=lambda variant: allowed[variant])
            busy_ms += NETWORK_RATES_HZ[name] * allowed[plan[name]]
        else:
            plans[candidate] = (busy_ms, plan)
    if not plans:
        return None
    if "onnx" in plans and "openvino" in plans:
        return plans["openvino" if plans["openvino"][0] < MAX_OPENVINO_TIME_RATIO * plans["onnx"][0] else "onnx"][1]
    return next(iter(plans.values()))[1]
