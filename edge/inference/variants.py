"""Which form of each network runs, an engine and a precision: pinned by the configuration, or the fastest of those measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from moodring.inference.bundle import BackendName, Bundle, Precision
from moodring.inference.processor import int8_is_native

BackendChoice = Literal["auto", "onnx", "openvino"]
PrecisionChoice = Literal["auto", "fp32", "fp16", "int8"]

BACKENDS: tuple[BackendName, ...] = ("onnx", "openvino")
NETWORK_RATES_HZ = {"face": 15.0, "speech": 2.0, "fusion": 5.0}  # how often each network runs unless configured
MAX_OPENVINO_TIME_RATIO = 0.95  # an engine that costs memory must take less than this of the time that ONNX Runtime takes


@dataclass(frozen=True, slots=True)
class NetworkVariant:
    """One way to run a network."""

    backend: BackendName
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


VariantPlan = dict[str, NetworkVariant]  # by network
PacedTimings = Mapping[str, Mapping[NetworkVariant, float]]  # by network and form: median milliseconds at the pace of a run

DEFAULT_VARIANT = NetworkVariant("onnx", "fp32")  # every bundle holds it, on every machine it runs


def is_installed(backend: BackendName) -> bool:
    """Say whether an engine is on this machine, without loading it."""
    return importlib.util.find_spec({"onnx": "onnxruntime", "openvino": "openvino"}[backend]) is not None


def available_variants(bundle: Bundle, name: str) -> list[NetworkVariant]:
    """Return the forms of one network that can run on this machine."""
    installed = [backend for backend in BACKENDS if is_installed(backend)]
    known: list[Precision] = ["fp32", "fp16", "int8"]
    held = bundle.models[name]
    return [NetworkVariant(backend, p) for backend in installed for p in known if p in held.precisions(backend)]


def resolve_auto(backend: BackendChoice, precision: PrecisionChoice) -> tuple[BackendName, Precision]:
    """Return what `auto` is where results must not depend on the machine: ONNX Runtime and float32."""
    return (
        DEFAULT_VARIANT.backend if backend == "auto" else backend,
        DEFAULT_VARIANT.precision if precision == "auto" else precision,
    )


def fixed_plan(bundle: Bundle, backend: BackendChoice, precision: PrecisionChoice) -> VariantPlan:
    """Return one form for every network of a bundle."""
    return dict.fromkeys(bundle.models, NetworkVariant(*resolve_auto(backend, precision)))


def default_plan(bundle: Bundle, backend: BackendChoice, precision: PrecisionChoice) -> VariantPlan:
    """Return what to run where nothing was measured: what is pinned, but int8 for the branches where it is likely to pay.

    On an x86 processor that multiplies int8 by itself they took half as long in ONNX Runtime; the fusion is too small to gain.
    """
    plan = fixed_plan(bundle, backend, precision)
    if precision == "auto" and backend != "openvino" and int8_is_native():
        int8: Precision = "int8"
        held = [name for name in plan if name != "fusion" and int8 in bundle.models[name].precisions(DEFAULT_VARIANT.backend)]
        plan |= dict.fromkeys(held, NetworkVariant(DEFAULT_VARIANT.backend, int8))
    return plan


def fastest_plan(measured: PacedTimings, backend: BackendChoice, precision: PrecisionChoice) -> VariantPlan | None:
    """Return the fastest form of each network among those that the configuration allows; None where a network has none.

    All networks run in one engine, since each engine costs memory: in OpenVINO only where it is faster by more than what two
    measurements of the same differ.
    """
    plans: dict[BackendName, tuple[float, VariantPlan]] = {}
    for engine in BACKENDS if backend == "auto" else (backend,):
        plan: VariantPlan = {}
        busy_ms = 0.0
        for name, timings in measured.items():
            allowed = {f: ms for f, ms in timings.items() if f.backend == engine and precision in ("auto", f.precision)}
            if not allowed:
                break
            plan[name] = min(allowed, key=lambda variant: allowed[variant])
            busy_ms += NETWORK_RATES_HZ[name] * allowed[plan[name]]
        else:
            plans[engine] = (busy_ms, plan)
    if not plans:
        return None
    if "onnx" in plans and "openvino" in plans:
        return plans["openvino" if plans["openvino"][0] < MAX_OPENVINO_TIME_RATIO * plans["onnx"][0] else "onnx"][1]
    return next(iter(plans.values()))[1]
