"""The import contract: which package may import which, the layers of the runtime, no circles, and what a process loads."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import moodring
from tests.architecture.modules import FOLDERS, PACKAGES, ROOT, circles, dotted, graph, imports, package_of, resolve, sources

RUNTIME = "moodring"
MAY_IMPORT = {
    RUNTIME: {RUNTIME},
    "moodring.train": {"moodring.train", RUNTIME},
    "moodring.export": {"moodring.export", "moodring.train", RUNTIME},
}
# The command line imports these inside the function of a subcommand that needs them.
BORDER = "moodring.cli."
BEYOND_THE_BORDER = {"moodring.train", "moodring.export"}

# All that an edge device installs. A new name here needs a new dependency or extra in pyproject.toml.
RUNTIME_LIBRARIES = {
    "av",
    "cryptography",
    "cv2",
    "h11",
    "numpy",
    "onnxruntime",
    "openvino",
    "paho",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "pyaudio",
    "pylsl",
    "rich",
    "wsproto",
    "yaml",
}
# Other implementations that `moodring bench --peers` measures (extra: bench).
PEERS = "moodring.diagnostics.peers."
PEER_LIBRARIES = {"fer", "kaldi_native_fbank", "librosa", "python_speech_features"}

# Top to bottom. A part of the runtime imports itself and what stands below it.
LAYERS = (
    ("cli",),
    ("dashboard", "service", "diagnostics"),
    ("analysis",),
    ("evaluation",),
    ("run",),
    ("publish",),
    ("pipeline", "telemetry"),
    ("networks",),
    ("config",),
    ("fusion", "smoothing", "arguments"),
    ("inference",),
    ("features", "capture"),
    ("buffers", "address", "folders", "labels", "process", ""),  # "" is the package itself: its version
    ("types",),
    ("errors", "clock"),
    ("redaction",),
)
LAYER_OF = {part: depth for depth, parts in enumerate(LAYERS) for part in parts}
MAX_MODULES = 16  # side by side in one folder


def part_of(module: str) -> str:
    """Return the part of the runtime that a module belongs to: `run` for moodring.run.stream."""
    return [*module.split("."), ""][1]


def violations(module: str, source: str) -> list[str]:
    """Return the imports of a module that break the contract, one line each."""
    found = []
    package = package_of(module)
    for one in imports(module, source):
        target = package_of(one.name)
        allowed = MAY_IMPORT[package] | (BEYOND_THE_BORDER if module.startswith(BORDER) and one.in_function else set())
        libraries = RUNTIME_LIBRARIES | (PEER_LIBRARIES if module.startswith(PEERS) else set())
        if target in (*PACKAGES.values(), *FOLDERS) and target not in allowed:
            found.append(f"{module}:{one.line} imports {one.name}; {package} may import {', '.join(sorted(allowed))}")
        elif package == RUNTIME and target not in {*PACKAGES.values(), *sys.stdlib_module_names, *libraries}:
            found.append(f"{module}:{one.line} imports {one.name}, which is not a library of the runtime")
    return found


def test_no_module_breaks_the_import_contract():
    found = [
        line for module, path in sources(*PACKAGES).items() for line in violations(module, path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("edge/fusion.py", "import torch"),
        ("edge/fusion.py", "import scipy.signal"),
        ("edge/fusion.py", "from train import loop"),
        ("edge/fusion.py", "import edge.types"),
        ("edge/fusion.py", "def f():\n    from moodring.train.loop import fit"),
        ("edge/fusion.py", "def f():\n    from moodring import train"),
        ("edge/fusion.py", "def f():\n    import importlib\n    importlib.import_module('moodring.export.to_onnx')"),
        ("edge/features/audio/mfcc.py", "from ...train import loop"),
        ("edge/features/audio/mfcc.py", "import librosa"),
        ("edge/diagnostics/peers/run.py", "import torch"),
        ("edge/cli/models.py", "import moodring.train.loop"),
        ("edge/cli/models.py", "def f():\n    import torch"),
        ("edge/cli/models.py", "def f():\n    import tests.support"),
        ("edge/cli/models.py", "def f():\n    import benchmarks.live"),
        ("train/loop.py", "from moodring.export import to_onnx"),
        ("train/loop.py", "import benchmarks.live"),
        ("export/verify.py", "from tests import support"),
    ],
)
def test_a_planted_violation_is_found(path: str, line: str):
    assert violations(dotted(path), line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("edge/fusion.py", "import numpy\nfrom moodring.types import F32\nfrom . import labels"),
        ("edge/cli/models.py", "def f():\n    import moodring.train.speech\n    lazy('export.run')"),
        ("edge/diagnostics/peers/run.py", "import librosa"),
        ("train/loop.py", "import torch\nfrom moodring.labels import LABELS"),
        ("export/verify.py", "from moodring.train.models import face"),
    ],
)
def test_an_allowed_import_is_not_found(path: str, line: str):
    assert not violations(dotted(path), line)


def test_imports_inside_the_runtime_point_down():
    modules = sources("edge")
    assert {part_of(module) for module in modules} == set(LAYER_OF), "LAYERS must name every part of the runtime"
    upward = [
        f"{module} imports {target}"
        for module, targets in graph(modules).items()
        for target in targets
        if part_of(module) != part_of(target)
        and LAYER_OF[part_of(module)] >= LAYER_OF[part_of(target)]
        and module != RUNTIME  # the public API of the package is imported on demand
    ]
    assert not upward, "\n".join(upward)


def test_there_is_no_import_circle():
    assert circles(graph(sources("edge", "train", "export", "benchmarks", "docs"))) == []


def test_a_planted_circle_is_found():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(edges) == [["a", "b", "c"]]


def test_no_folder_holds_too_many_modules():
    counts: dict[str, int] = {}
    for path in sources(*FOLDERS).values():
        folder = path.parent.relative_to(ROOT).as_posix()
        counts[folder] = counts.get(folder, 0) + 1
    assert not {folder: count for folder, count in counts.items() if count > MAX_MODULES}


def test_the_distribution_lists_every_package():
    """Setuptools cannot discover packages under another name than their folder's."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    data = {"moodring.configs": "configs"}  # without modules
    assert setuptools["package-dir"] == {name: folder for folder, name in PACKAGES.items()} | data
    packages = {module for module, path in sources(*PACKAGES).items() if path.name == "__init__.py"}
    folders = {dotted(path.parent.relative_to(ROOT).as_posix()) for path in sources(*PACKAGES).values()}
    assert packages == folders, "every folder with modules needs an __init__.py"
    assert set(setuptools["packages"]) == packages | set(data)


def test_every_module_is_imported_by_another_or_is_a_command():
    """Modules that only tests import are dead."""
    modules = sources("edge", "train", "export", "benchmarks", "docs")
    used = {target for targets in graph(modules).values() for target in targets}
    named = "\n".join(
        path.read_text(encoding="utf-8") for path in [*modules.values(), ROOT / "Makefile", ROOT / "pyproject.toml"]
    )
    unused = [
        module
        for module, path in modules.items()
        if module not in used and path.name not in ("__init__.py", "__main__.py") and f"{module}" not in named.replace("/", ".")
    ]
    commands = {module for module in unused if '__name__ == "__main__"' in modules[module].read_text(encoding="utf-8")}
    assert set(unused) <= commands | {module for module in unused if module.startswith("docs.examples.")}


def test_the_public_api_has_docstrings():
    assert moodring.__all__
    for name in moodring.__all__:
        value = getattr(moodring, name)
        assert isinstance(value, tuple) or value.__doc__, f"moodring.{name} has no docstring"
    assert set(moodring.__all__) <= set(dir(moodring))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = moodring.absent


IMPORT_ALL = """
import importlib, json, pkgutil, sys, threading, time

optional = ("av", "asyncio", "cv2", "h11", "numpy", "onnxruntime", "openvino", "pyaudio", "rich.live", "wsproto", "yaml")
for name in optional:  # the effects of importing a library are not ours
    try:
        importlib.import_module(name)
    except ImportError:
        pass
threads = threading.active_count()
noticed = []

def watch(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.mkdir", "os.system", "shutil.")):
        noticed.append(event)
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        noticed.append(f"open {arguments[0]} for writing")

sys.dont_write_bytecode = True
sys.addaudithook(watch)
start = time.process_time()
import moodring

names, missing = ["moodring"], []
for module in pkgutil.walk_packages(moodring.__path__, "moodring."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name not in ("openvino", "pyaudio"):
            raise
        missing.append(module.name)
    names.append(module.name)
print(json.dumps({
    "modules": names,
    "missing": missing,
    "foreign": sorted(sys.modules),
    "noticed": noticed,
    "threads": threading.active_count() - threads,
    "seconds": time.process_time() - start,
}))
"""


@pytest.fixture(scope="module")
def process() -> dict[str, object]:
    """Import every module of the runtime in a new process and return what happened there."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_module_of_the_runtime_was_imported(process):
    fer_package = "moodring.diagnostics.peers.fer_package"
    assert {*process["modules"], fer_package} == {*sources("edge"), fer_package}


def test_the_runtime_loads_neither_torch_nor_scipy_nor_training(process):
    heavy = {"torch", "scipy", "matplotlib", "onnx", "skimage", "benchmarks", "tests", "edge", "train", "export"}
    assert not heavy & {name.split(".")[0] for name in process["foreign"]}
    assert not {name for name in process["foreign"] if package_of(name) in BEYOND_THE_BORDER}


def test_importing_the_runtime_has_no_side_effects(process):
    assert process["noticed"] == []
    assert process["threads"] == 0
    assert process["seconds"] < 2.0


def test_names_resolve_to_modules():
    modules = {"moodring": Path(), "moodring.types": Path()}
    assert resolve("moodring.types.F32", modules) == "moodring.types"
    assert resolve("numpy.random", modules) is None
