from __future__ import annotations

import os
import types
from pathlib import Path

import numpy as np
import pytest

from moodring.capture.microphone import InputDevice
from moodring.diagnostics import doctor
from moodring.diagnostics.doctor import Finding

OK = Finding("a", "ok", "fine")
WARN = Finding("b", "warn", "none found", "pip install 'moodring[mic]' to have it")
FAIL = Finding("c", "fail", "broken", "mend it")


def test_all_checks_pass_on_this_machine():
    findings = {finding.name: finding for finding in doctor.diagnose()}
    for name in (
        "python",
        "numpy",
        "cv2",
        "av",
        "yaml",
        "onnxruntime",
        "cascade",
        "backend onnxruntime",
        "bundled clip",
    ):
        assert findings[name].status == "ok", findings[name]
    assert {"backend openvino", "bundle", "camera", "microphone"} < set(findings)
    assert all(finding.advice for finding in findings.values() if finding.status == "warn")


def test_a_missing_library_is_named():
    finding = doctor.check_library("no_such_library")
    assert finding.status == "fail"
    assert "no_such_library" in finding.detail


def test_opencv_5_is_rejected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.importlib, "import_module", lambda _: types.SimpleNamespace(__version__="5.0.0"))
    assert doctor.check_library("cv2").status == "fail"
    assert "<5" in doctor.check_library("cv2").advice


def test_a_missing_cascade_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "CASCADES", ("no_such_cascade.xml",))
    assert doctor.check_cascade().status == "fail"
    assert "no_such_cascade.xml" in doctor.check_cascade().detail


def test_an_engine_that_fails_or_computes_wrong_results_is_reported():
    def refuse():
        raise RuntimeError("illegal instruction")

    assert "illegal instruction" in doctor.check_backend("x", refuse).detail
    assert doctor.check_backend("x", lambda: np.zeros(2)).status == "fail"
    assert doctor.check_backend("x", doctor.run_onnxruntime).status == "ok"


def test_openvino_runs_where_it_is_installed():
    pytest.importorskip("openvino")
    assert doctor.check_backend("openvino", doctor.run_openvino).status == "ok"


def test_a_folder_without_a_bundle_is_named(tmp_path: Path):
    finding = doctor.check_bundle(tmp_path)
    assert finding.status == "fail"
    assert str(tmp_path) in finding.detail


def fake_camera(root: Path, number: int, name: str, index: str) -> None:
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / f"video{number}").touch()
    (root / "class" / f"video{number}").mkdir(parents=True)
    (root / "class" / f"video{number}" / "name").write_text(f"{name}\n")
    (root / "class" / f"video{number}" / "index").write_text(f"{index}\n")


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.sys, "platform", "linux")


@pytest.mark.usefixtures("linux")
def test_a_camera_is_listed_by_name_without_its_metadata_node(tmp_path: Path):
    fake_camera(tmp_path, 0, "Integrated Camera", "0")
    fake_camera(tmp_path, 1, "Integrated Camera", "1")
    finding = doctor.check_cameras(tmp_path / "dev", tmp_path / "class")
    assert finding == Finding("camera", "ok", f"{tmp_path / 'dev' / 'video0'} Integrated Camera")


@pytest.mark.usefixtures("linux")
def test_a_camera_without_permission_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fake_camera(tmp_path, 0, "Integrated Camera", "0")
    monkeypatch.setattr(os, "access", lambda *_: False)
    finding = doctor.check_cameras(tmp_path / "dev", tmp_path / "class")
    assert finding.status == "warn"
    assert "-aG video" in finding.advice


@pytest.mark.usefixtures("linux")
def test_no_camera_is_a_warning(tmp_path: Path):
    finding = doctor.check_cameras(tmp_path, tmp_path)
    assert finding.status == "warn"
    assert "moodring run FILE" in finding.advice


@pytest.mark.parametrize(
    ("default", "names", "status", "text"),
    [
        ("Built-in", ["Built-in", "USB"], "ok", "Built-in (default), 2 in total"),
        (None, ["USB"], "warn", "no default input among USB"),
        (None, [], "warn", "none found"),
    ],
)
def test_microphones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, default: str | None, names: list[str], status: str, text: str
):
    monkeypatch.setattr(doctor, "is_installed", lambda _: True)
    found = [InputDevice(index, name, 44_100, 2, name == default) for index, name in enumerate(names)]
    monkeypatch.setattr(doctor, "list_microphones", lambda: found)
    finding = doctor.check_microphones(tmp_path / "snd")
    assert (finding.status, finding.detail) == (status, text)


def test_a_missing_pyaudio_names_the_packages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "is_installed", lambda _: False)
    assert "portaudio19-dev" in doctor.check_microphones().advice


def test_listing_microphones_prints_nothing(capfd: pytest.CaptureFixture[str]):
    pytest.importorskip("pyaudio")
    assert sum(microphone.default for microphone in doctor.list_microphones()) <= 1
    assert capfd.readouterr().err == ""
