"""Choice of the variant of each network: as configured, else the fastest of those measured on this machine."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path

import pytest

from moodring.config import Config, InferenceConfig
from moodring.diagnostics import doctor
from moodring.inference import processor, tuning, variants
from moodring.inference.bundle import DEFAULT, load
from moodring.inference.measure import measure, random_inputs
from moodring.inference.variants import (
    DEFAULT_VARIANT,
    NetworkVariant,
    PacedTimings,
    available_variants,
    fastest_plan,
    fixed_plan,
)
from moodring.run import replay
from moodring.types import F32

FP32, INT8 = NetworkVariant("onnx", "fp32"), NetworkVariant("onnx", "int8")
OV32, OV8 = NetworkVariant("openvino", "fp32"), NetworkVariant("openvino", "int8")
MEASURED: PacedTimings = {
    "face": {FP32: 1.0, INT8: 0.5, OV32: 0.9, OV8: 0.7},
    "speech": {FP32: 1.0, INT8: 0.6, OV32: 0.9, OV8: 0.9},
    "fusion": {FP32: 0.1, INT8: 0.2, OV32: 0.3, OV8: 0.3},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "SAMPLES", 2)
    return tmp_path / "cache" / "moodring"


def test_fastest_plan_chooses_the_fastest_variant_of_each_network():
    assert fastest_plan(MEASURED, "auto", "auto") == {"face": INT8, "speech": INT8, "fusion": FP32}


def test_fastest_plan_uses_only_the_configured_backend_and_precision():
    assert fastest_plan(MEASURED, "openvino", "auto") == {"face": OV8, "speech": OV32, "fusion": OV32}
    assert fastest_plan(MEASURED, "auto", "fp32") == dict.fromkeys(MEASURED, FP32)
    assert fastest_plan(MEASURED, "auto", "fp16") is None


@pytest.mark.parametrize(("openvino_ms", "backend"), [(0.97, "onnx"), (0.9, "openvino")])
def test_fastest_plan_chooses_openvino_only_above_a_minimum_gain(openvino_ms: float, backend: str):
    measured = {name: {FP32: 1.0, OV32: openvino_ms} for name in MEASURED}
    plan = fastest_plan(measured, "auto", "auto")
    assert plan is not None
    assert {variant.backend for variant in plan.values()} == {backend}


def test_fastest_plan_runs_all_networks_in_one_backend():
    measured = {"face": {FP32: 1.0, OV32: 0.2}, "fusion": {FP32: 0.1, OV32: 0.3}}
    assert fastest_plan(measured, "auto", "auto") == {"face": OV32, "fusion": OV32}


def test_a_configured_variant_needs_no_measurement(tiny_bundle: Path):
    bundle = load(tiny_bundle)
    assert fixed_plan(bundle, "auto", "auto") == dict.fromkeys(bundle.models, DEFAULT_VARIANT)
    assert fixed_plan(bundle, "openvino", "auto")["face"] == OV32
    assert tuning.plan(bundle, "onnx", "int8") == (dict.fromkeys(bundle.models, INT8), "set by the configuration")


@pytest.mark.parametrize("native", [True, False])
def test_plan_without_measurement_is_int8_on_native_processors_and_names_the_tune_command(
    tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, native: bool
):
    monkeypatch.setattr(variants, "int8_is_native", lambda: native)
    bundle, bundle_without_int8 = load(DEFAULT), load(tiny_bundle)
    plan, reason = tuning.plan(bundle, "auto", "auto")
    branch = INT8 if native else DEFAULT_VARIANT
    assert plan == {"face": branch, "speech": branch, "fusion": DEFAULT_VARIANT}
    assert tuning.plan(bundle_without_int8, "auto", "auto")[0] == dict.fromkeys(bundle_without_int8.models, DEFAULT_VARIANT)
    assert "moodring doctor --tune" in reason
    assert not cache.exists()
    assert tuning.plan(bundle, "auto", "fp32")[0] == dict.fromkeys(plan, DEFAULT_VARIANT)
    assert tuning.plan(bundle, "openvino", "auto")[0] == dict.fromkeys(plan, OV32)


def test_a_measurement_applies_only_to_its_bundle_and_machine(tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    bundle = load(tiny_bundle)
    timings = tuning.tune(bundle)
    assert set(timings["face"]) == set(available_variants(bundle, "face"))
    tuned = tuning.load_result(bundle)
    assert tuned is not None
    assert tuned.paced_ms["face"][DEFAULT_VARIANT] == timings["face"][DEFAULT_VARIANT].paced_ms.p50
    plan, reason = tuning.plan(bundle, "auto", "auto")
    assert plan == fastest_plan(tuned.paced_ms, "auto", "auto")
    assert "fastest on this machine, measured" in reason
    assert tuning.load_result(dataclasses.replace(bundle, id="0" * 16)) is None
    assert tuning.load_result(bundle, threads=2) is None
    monkeypatch.setattr(tuning, "processor", lambda: "another processor")
    assert tuning.load_result(bundle) is None
    assert [path.suffix for path in cache.iterdir()] == [".json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 1}', "\x00"])
def test_a_damaged_result_is_ignored(tiny_bundle: Path, cache: Path, content: str):
    bundle = load(tiny_bundle)
    tuning.tune(bundle)
    (file,) = cache.iterdir()
    file.write_text(content)
    assert tuning.load_result(bundle) is None


def test_doctor_tunes_and_reports_the_chosen_variants(tiny_bundle: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    assert "not measured on this machine yet" in doctor.check_variants(tiny_bundle).detail
    assert doctor.main(json=True, bundle=str(tiny_bundle), tuned=True) == 0
    output = json.loads(capsys.readouterr().out)
    assert sum(row["chosen"] for row in output["forms"]) == 3
    assert Path(output["kept"]).parent == cache
    assert doctor.main(json=False, bundle=str(tiny_bundle), tuned=True) == 0
    assert "stored in" in capsys.readouterr().out
    assert "fastest on this machine, measured" in doctor.check_variants(tiny_bundle).detail
    assert doctor.check_variants(tiny_bundle / "nothing").status == "fail"


def test_a_replay_ignores_the_measurement():
    config = replay.reproducible(Config())
    assert config.inference == InferenceConfig("onnx", "fp32", 1)
    configured = Config(inference=InferenceConfig("openvino", "int8", 2))
    assert replay.reproducible(configured).inference == configured.inference


class CountingModel:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def run(self, inputs: dict[str, F32]) -> dict[str, F32]:
        self.calls += 1
        return inputs


def test_measure_calls_all_models_equally_often_with_the_same_inputs():
    shapes = {"x": (1, 3)}
    assert (random_inputs(shapes)["x"] == random_inputs(shapes)["x"]).all()
    models = {"a": CountingModel(), "b": CountingModel()}
    timings = measure(models, shapes, samples=3)
    assert models["a"].calls == models["b"].calls
    for timing in timings.values():
        assert timing.samples == 3
        assert 0 < timing.hot_ms.p50 <= timing.hot_ms.p95 <= timing.hot_ms.p99
        assert timing.cpu_share >= 0


@pytest.mark.parametrize(
    ("machine", "flags", "overflows", "native"),
    [
        ("x86_64", "sse4_2 avx2", True, False),
        ("x86_64", "avx2 avx512_vnni", False, True),
        ("aarch64", "asimd", False, False),
        ("aarch64", "asimd asimddp", False, True),
    ],
)
def test_processor_reports_native_int8_and_overflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, overflows: bool, native: bool
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    assert processor.int8_may_overflow(tmp_path / "cpuinfo") is overflows
    assert processor.int8_is_native(tmp_path / "cpuinfo") is native
