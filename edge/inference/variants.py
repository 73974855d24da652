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
RATES_HZ = {"face": 15.0, "speech": 2.0, "fusion": 5.0}  # how often each network runs unless configured
WORTH_IT = 0.95  # an engine that costs memory must take less than this of the time that ONNX Runtime takes


@dataclass(frozen=True, slots=True)
class Form:
    """One way to run a network."""

    backend: BackendName
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


Plan = dict[str, Form]  # by network
Paced = Mapping[str, Mapping[Form, float]]  # by network and form: median milliseconds at the pace of a run

SAFE = Form("onnx", "fp32")  # every bundle holds it, on every machine it runs


def is_installed(backend: BackendName) -> bool:
    """Say whether an engine is on this machine, without loading it."""
    return importlib.util.find_spec({"onnx": "onnxruntime", "openvino": "openvino"}[backend]) is not None


def forms_of(bundle: Bundle, name: str) -> list[Form]:
    """Return the forms of one network that can run on this machine."""
    there = [backend for backend in BACKENDS if is_installed(backend)]
    known: list[Precision] = ["fp32", "fp16", "int8"]
    held = bundle.models[name]
    return [Form(backend, p) for backend in there for p in known if p in held.precisions(backend)]


def resolved(backend: BackendChoice, precision: PrecisionChoice) -> tuple[BackendName, Precision]:
    """Return what `auto` is where results must not depend on the machine: ONNX Runtime and float32."""
    return SAFE.backend if backend == "auto" else backend, SAFE.precision if precision == "auto" else precision


def pinned(bundle: Bundle, backend: BackendChoice, precision: PrecisionChoice) -> Plan:
    """Return one form for every network of a bundle."""
    return dict.fromkeys(bundle.models, Form(*resolved(backend, precision)))


def untuned(bundle: Bundle, backend: BackendChoice, precision: PrecisionChoice) -> Plan:
    """Return what to run where nothing was measured: what is pinned, but int8 for the branches where it is likely to pay.

    On an x86 processor that multiplies int8 by itself they took half as long in ONNX Runtime; the fusion is too small to gain.
    """
    plan = pinned(bundle, backend, precision)
    if precision == "auto" and backend != "openvino" and int8_is_native():
        small: Precision = "int8"
        held = [name for name in plan if name != "fusion" and small in bundle.models[name].precisions(SAFE.backend)]
        plan |= dict.fromkeys(held, Form(SAFE.backend, small))
    return plan


def choose(measured: Paced, backend: BackendChoice, precision: PrecisionChoice) -> Plan | None:
    """Return the fastest form of each network among those that the configuration allows; None where a network has none.

    All networks run in one engine, since each engine costs memory: in OpenVINO only where it is faster by more than what two
    measurements of the same differ.
    """
    plans: dict[BackendName, tuple[float, Plan]] = {}
    for engine in BACKENDS if backend == "auto" else (backend,):
        plan: Plan = {}
        busy_ms = 0.0
        for name, timings in measured.items():
            allowed = {f: ms for f, ms in timings.items() if f.backend == engine and precision in ("auto", f.precision)}
            if not allowed:
                break
            plan[name] = min(allowed, key=lambda form: allowed[form])
            busy_ms += RATES_HZ[name] * allowed[plan[name]]
        else:
            plans[engine] = (busy_ms, plan)
    if not plans:
        return None
    if "onnx" in plans and "openvino" in plans:
        return plans["openvino" if plans["openvino"][0] < WORTH_IT * plans["onnx"][0] else "onnx"][1]
    return next(iter(plans.values()))[1]
