"""Which form runs: what the configuration pins, else the fastest of those measured on this machine."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path

import pytest

from moodring.config import Config, InferenceConfig
from moodring.diagnostics import doctor
from moodring.inference import processor, tuning
from moodring.inference import variants as forms
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
from moodring.run import session
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


def test_each_network_gets_its_fastest_form():
    assert fastest_plan(MEASURED, "auto", "auto") == {"face": INT8, "speech": INT8, "fusion": FP32}


def test_a_pin_leaves_only_what_it_allows():
    assert fastest_plan(MEASURED, "openvino", "auto") == {"face": OV8, "speech": OV32, "fusion": OV32}
    assert fastest_plan(MEASURED, "auto", "fp32") == dict.fromkeys(MEASURED, FP32)
    assert fastest_plan(MEASURED, "auto", "fp16") is None


@pytest.mark.parametrize(("gain", "engine"), [(0.97, "onnx"), (0.9, "openvino")])
def test_openvino_must_be_worth_its_memory(gain: float, engine: str):
    measured = {name: {FP32: 1.0, OV32: gain} for name in MEASURED}
    chosen = fastest_plan(measured, "auto", "auto")
    assert chosen is not None
    assert {variant.backend for variant in chosen.values()} == {engine}


def test_all_networks_run_in_one_engine():
    measured = {"face": {FP32: 1.0, OV32: 0.2}, "fusion": {FP32: 0.1, OV32: 0.3}}
    assert fastest_plan(measured, "auto", "auto") == {"face": OV32, "fusion": OV32}


def test_what_is_pinned_needs_no_measurement(tiny_bundle: Path):
    bundle = load(tiny_bundle)
    assert fixed_plan(bundle, "auto", "auto") == dict.fromkeys(bundle.models, DEFAULT_VARIANT)
    assert fixed_plan(bundle, "openvino", "auto")["face"] == OV32
    assert tuning.plan(bundle, "onnx", "int8") == (dict.fromkeys(bundle.models, INT8), "pinned by the configuration")


@pytest.mark.parametrize("native", [True, False])
def test_untuned_is_int8_where_the_processor_has_it_and_says_how_to_tune(
    tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, native: bool
):
    monkeypatch.setattr(forms, "int8_is_native", lambda: native)
    bundle, without = load(DEFAULT), load(tiny_bundle)
    plan, why = tuning.plan(bundle, "auto", "auto")
    branch = INT8 if native else DEFAULT_VARIANT
    assert plan == {"face": branch, "speech": branch, "fusion": DEFAULT_VARIANT}
    assert tuning.plan(without, "auto", "auto")[0] == dict.fromkeys(without.models, DEFAULT_VARIANT)
    assert "moodring doctor --tune" in why
    assert not cache.exists()
    assert tuning.plan(bundle, "auto", "fp32")[0] == dict.fromkeys(plan, DEFAULT_VARIANT)
    assert tuning.plan(bundle, "openvino", "auto")[0] == dict.fromkeys(plan, OV32)


def test_a_measurement_is_remembered_for_this_bundle_and_machine_alone(
    tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    bundle = load(tiny_bundle)
    timings = tuning.tune(bundle)
    assert set(timings["face"]) == set(available_variants(bundle, "face"))
    tuned = tuning.load_result(bundle)
    assert tuned is not None
    assert tuned.paced_ms["face"][DEFAULT_VARIANT] == timings["face"][DEFAULT_VARIANT].paced_ms.p50
    plan, why = tuning.plan(bundle, "auto", "auto")
    assert plan == fastest_plan(tuned.paced_ms, "auto", "auto")
    assert "the fastest here" in why
    assert tuning.load_result(dataclasses.replace(bundle, id="0" * 16)) is None
    assert tuning.load_result(bundle, threads=2) is None
    monkeypatch.setattr(tuning, "processor", lambda: "another")
    assert tuning.load_result(bundle) is None
    assert [path.suffix for path in cache.iterdir()] == [".json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 1}', "\x00"])
def test_a_damaged_memory_counts_as_none(tiny_bundle: Path, cache: Path, content: str):
    bundle = load(tiny_bundle)
    tuning.tune(bundle)
    (file,) = cache.iterdir()
    file.write_text(content)
    assert tuning.load_result(bundle) is None


def test_the_doctor_tunes_and_then_shows_what_it_chose(tiny_bundle: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    assert "not measured here yet" in doctor.check_forms(tiny_bundle).detail
    assert doctor.main(json=True, bundle=str(tiny_bundle), tuned=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert sum(row["chosen"] for row in said["forms"]) == 3
    assert Path(said["kept"]).parent == cache
    assert doctor.main(json=False, bundle=str(tiny_bundle), tuned=True) == 0
    assert "kept in" in capsys.readouterr().out
    assert "the fastest here" in doctor.check_forms(tiny_bundle).detail
    assert doctor.check_forms(tiny_bundle / "nothing").status == "fail"


def test_a_replay_is_never_left_to_a_measurement():
    settled = session._reproducible(Config())
    assert settled.inference == InferenceConfig("onnx", "fp32", 1)
    chosen = Config(inference=InferenceConfig("openvino", "int8", 2))
    assert session._reproducible(chosen).inference == chosen.inference


class Counting:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def run(self, inputs: dict[str, F32]) -> dict[str, F32]:
        self.calls += 1
        return inputs


def test_forms_are_measured_against_each_other_on_the_same_input():
    shapes = {"x": (1, 3)}
    assert (random_inputs(shapes)["x"] == random_inputs(shapes)["x"]).all()
    models = {"one": Counting(), "other": Counting()}
    timings = measure(models, shapes, samples=3)
    assert models["one"].calls == models["other"].calls
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
def test_what_the_processor_makes_of_int8_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, overflows: bool, native: bool
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    assert processor.int8_may_overflow(tmp_path / "cpuinfo") is overflows
    assert processor.int8_is_native(tmp_path / "cpuinfo") is native
