"""`moodring doctor`: checks of devices, libraries, models and permissions, with advice on each failure.

It opens no camera, no microphone stream and no socket. Every check returns findings and none raises, so that one failure does
not hide the others.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import sys
from collections import Counter
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from moodring.capture.camera import VIDEO_GROUP_HINT
from moodring.capture.microphone import list_microphones
from moodring.diagnostics.devices import cameras
from moodring.errors import DeviceError, MoodringError
from moodring.inference import bundle as bundles
from moodring.inference import tuning

Status = Literal["ok", "warn", "fail"]

PACKAGE = Path(__file__).resolve().parents[1]
BUNDLE = bundles.DEFAULT
CLIP = PACKAGE / "samples" / "clip.mp4"
CASCADES = tuple(f"haarcascade_{kind}.xml" for kind in ("frontalface_default", "frontalface_alt2", "profileface"))
REINSTALL = "reinstall moodring: in a clone remove .venv and run make run, otherwise pip install --force-reinstall moodring"

# Extras for publishing: name of the extra, its package, and its purpose.
EXTRAS = {
    "mqtt": ("paho-mqtt", "events to an MQTT broker"),
    "metrics": ("prometheus_client", "metrics and health pages"),
    "lsl": ("pylsl", "the Lab Streaming Layer"),
}

# y = x + x on two float32, ONNX opset 13: tests that an engine loads, compiles and runs a model.
TINY_MODEL = (
    b"\x08\x08\x12\x00:5\n\x0e\n\x01x\n\x01x\x12\x01y\x22\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n"
    b"\x02\x08\x02b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02B\x04\n\x00\x10\r"
)
TINY_INPUT = np.array([1.0, 2.0], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `advice` is empty where nothing needs to be done."""

    name: str
    status: Status
    detail: str
    advice: str = ""


def diagnose(bundle: Path = BUNDLE) -> list[Finding]:
    """Run all checks, in the order in which a run needs the parts."""
    return [
        check_python(),
        *check_libraries(),
        check_cascade(),
        check_backend("onnxruntime", run_onnxruntime),
        check_backend("openvino", run_openvino) if is_installed("openvino") else no_openvino(),
        check_bundle(bundle),
        check_variants(bundle),
        check_cameras(),
        check_microphones(),
        check_clip(),
        *(check_extra(extra, package, what) for extra, (package, what) in EXTRAS.items()),
    ]


# --- the machine and its libraries ----------------------------------------------------------------------------------


def check_python() -> Finding:
    detail = f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"
    if sys.version_info < (3, 11):  # noqa: UP036  (a machine may run the sources with another Python than the installed)
        return Finding("python", "fail", detail, "install Python 3.11 or newer")
    return Finding("python", "ok", detail)


def check_libraries() -> list[Finding]:
    return [check_library(name) for name in ("numpy", "cv2", "av", "yaml", "onnxruntime")]


def check_library(name: str) -> Finding:
    try:
        version = str(getattr(importlib.import_module(name), "__version__", "unknown version"))
    except (ImportError, OSError) as error:
        return Finding(name, "fail", f"cannot be imported: {error}", REINSTALL)
    if name == "cv2" and int(version.split(".", maxsplit=1)[0]) >= 5:
        advice = "pip install 'opencv-python-headless>=4.13,<5'"
        return Finding(name, "fail", f"{version}: OpenCV 5 has no cascade classifier", advice)
    return Finding(name, "ok", version)


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def check_cascade() -> Finding:
    for name in CASCADES:
        try:
            cv2 = importlib.import_module("cv2")
            path = Path(cv2.data.haarcascades) / name
            loaded = path.is_file() and not cv2.CascadeClassifier(str(path)).empty()
        except (ImportError, OSError, AttributeError) as error:
            return Finding("cascade", "fail", f"OpenCV cannot load {name}: {error}", REINSTALL)
        if not loaded:
            return Finding("cascade", "fail", f"{path} is missing or damaged", REINSTALL)
    return Finding("cascade", "ok", ", ".join(CASCADES))


# --- inference ------------------------------------------------------------------------------------------------------


def run_onnxruntime() -> Any:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(TINY_MODEL, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": TINY_INPUT})[0]


def run_openvino() -> Any:
    core = importlib.import_module("openvino").Core()
    return core.compile_model(core.read_model(io.BytesIO(TINY_MODEL)), "CPU")([TINY_INPUT])[0]


def check_backend(name: str, run: Any) -> Finding:
    try:
        answer = run()
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Finding(f"backend {name}", "fail", f"cannot run a one-node model: {error}", REINSTALL)
    if not np.array_equal(answer, TINY_INPUT + TINY_INPUT):
        return Finding(f"backend {name}", "fail", f"computes 1+1, 2+2 as {answer}", REINSTALL)
    return Finding(f"backend {name}", "ok", "runs")


def no_openvino() -> Finding:
    return Finding("backend openvino", "ok", "not installed (optional)", "pip install 'moodring[openvino]' to have it")


def check_extra(extra: str, package: str, what: str) -> Finding:
    """Check that a package is installed, without importing it. A missing extra is not a failure."""
    try:
        return Finding(f"extra {extra}", "ok", f"{package} {importlib.metadata.version(package)}: {what}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            f"extra {extra}", "ok", f"not installed (optional): {what}", f"pip install 'moodring[{extra}]' to have it"
        )


def check_bundle(folder: Path = BUNDLE) -> Finding:
    """Verify the bundle's files and load each of its networks."""
    try:
        bundle = bundles.load(folder, required=())
        for model in bundle.models:
            bundle.open(model)
    except MoodringError as error:
        return Finding("bundle", "fail", str(error))
    return Finding("bundle", "ok", f"{bundle.name} {bundle.id}: {', '.join(bundle.models)}")


def check_variants(folder: Path = BUNDLE) -> Finding:
    """Report the variant of each network that `inference.backend: auto` selects, and why."""
    try:
        plan, why = tuning.plan(bundles.load(folder, required=()), "auto", "auto")
    except MoodringError:
        return Finding("inference", "fail", "no valid bundle", "see the finding above")
    return Finding("inference", "ok", f"auto is {tuning.describe(plan)} ({why})")


# --- devices: a missing one is not a failure, because a run continues without it -------------------------------------


def check_cameras(dev: Path = Path("/dev"), classes: Path = Path("/sys/class/video4linux")) -> Finding:
    if sys.platform == "darwin":
        return Finding("camera", "ok", "macOS asks for permission at the first `moodring run`")
    found = cameras(dev, classes)
    if not found:
        return Finding("camera", "warn", f"no {dev}/video*", "connect a camera, or replay a recording: moodring run FILE")
    described = ", ".join(f"{camera.use} {camera.name}" for camera in found)
    if all(camera.trouble for camera in found):
        return Finding("camera", "warn", f"{described}: no permission to open it", VIDEO_GROUP_HINT)
    return Finding("camera", "ok", described)


def check_microphones(sound: Path = Path("/dev/snd")) -> Finding:
    if not is_installed("pyaudio"):
        packages = "sudo apt-get install portaudio19-dev gcc python3-dev (macOS: brew install portaudio)"
        advice = f"{packages}, then pip install 'moodring[mic]'; in a clone, make run does both"
        return Finding("microphone", "warn", "PyAudio is not installed", advice)
    try:
        found = list_microphones()
    except (DeviceError, OSError) as error:
        return Finding("microphone", "warn", f"PyAudio cannot list devices: {error}", "check that a sound server is running")
    default = next((microphone.name for microphone in found if microphone.default), None)
    if default is not None:
        return Finding("microphone", "ok", f"{default} (default), {len(found)} in total")
    if found:
        names = ", ".join(microphone.name for microphone in found)
        return Finding("microphone", "warn", f"no default input among {names}", "name one: --audio NAME")
    if sound.is_dir() and not any(os.access(node, os.R_OK) for node in sound.glob("pcmC*c")):
        advice = "sudo usermod -aG audio $USER, then log in again"
        return Finding("microphone", "warn", f"none found, and no permission to read {sound}", advice)
    return Finding("microphone", "warn", "none found", "connect a microphone, or replay a recording: moodring run FILE")


def check_clip(path: Path = CLIP) -> Finding:
    if not path.is_file():
        return Finding("bundled clip", "fail", f"{path} is missing", REINSTALL)
    try:
        av = importlib.import_module("av")
        with av.open(str(path)) as container:
            kinds = [stream.type for stream in container.streams]
            next(container.decode(video=0))
            seconds = (container.duration or 0) / av.time_base
    except (ImportError, OSError, ValueError, StopIteration) as error:  # PyAV's errors are OSError or ValueError
        return Finding("bundled clip", "fail", f"{path} cannot be decoded: {error}", REINSTALL)
    return Finding("bundled clip", "ok", f"{seconds:.0f} s of {' and '.join(kinds)}")


# --- output ---------------------------------------------------------------------------------------------------------

PIPED_WIDTH = 200  # columns when piped: one finding stays on one line
STYLES: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def print_table(findings: list[Finding]) -> None:
    """Print one line for each finding, and its advice below."""
    table = Table("", "what", "found", box=None, pad_edge=False)
    for finding in findings:  # as Text: square brackets in a name are not markup
        table.add_row(Text(finding.status, STYLES[finding.status]), finding.name, Text(finding.detail))
        if finding.advice:
            table.add_row("", "", Text(f"-> {finding.advice}"))
    console = Console(width=None if sys.stdout is not None and sys.stdout.isatty() else PIPED_WIDTH)
    console.print(table)
    counts = Counter(finding.status for finding in findings)
    console.print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failed")


def to_json(findings: list[Finding]) -> str:
    ok = all(finding.status != "fail" for finding in findings)
    return dumps({"ok": ok, "findings": [dataclasses.asdict(finding) for finding in findings]}, indent=2)


def tune(folder: Path, json: bool) -> int:
    """Measure every variant of every network, store the result for `inference.backend: auto`, and print it; return 0."""
    bundle = bundles.load(folder, required=())
    cache = str(tuning.prepare_cache(bundle))
    print(f"moodring: measuring bundle {bundle.id} for about 15 seconds; do not use the machine", file=sys.stderr, flush=True)
    timings = tuning.tune(bundle)
    plan, _ = tuning.plan(bundle, "auto", "auto")
    if json:
        rows = [
            {**dataclasses.asdict(variant), "network": name, "chosen": plan[name] == variant, **dataclasses.asdict(timing)}
            for name, by_variant in timings.items()
            for variant, timing in by_variant.items()
        ]
        print(dumps({"bundle": bundle.id, "kept": cache, "forms": rows}, indent=2))
        return 0
    table = Table("", "network", "variant", "hot ms", "paced ms", "paced p95", "CPU share", box=None, pad_edge=False)
    for name, by_variant in timings.items():
        for variant, timing in by_variant.items():
            mark = Text("auto" if plan[name] == variant else "", "green")
            milliseconds = (f"{value:.2f}" for value in (timing.hot_ms.p50, timing.paced_ms.p50, timing.paced_ms.p95))
            table.add_row(mark, name, str(variant), *milliseconds, f"{100 * timing.cpu_share:.2f} %")
    console = Console(width=None if sys.stdout is not None and sys.stdout.isatty() else PIPED_WIDTH)
    console.print(table)
    console.print(f"stored in {cache}; `auto` settings use it from the next start", highlight=False, markup=False)
    return 0


def main(json: bool, bundle: str = "default", tuned: bool = False) -> int:
    """Run `moodring doctor`; return 1 where a check failed, else 0. Warnings are not failures."""
    folder = bundles.resolve(bundle)
    if tuned:
        return tune(folder, json)
    findings = diagnose(folder)
    if json:
        print(to_json(findings))
    else:
        print_table(findings)
    return int(any(finding.status == "fail" for finding in findings))
