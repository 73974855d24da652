"""The import contract of docs and design: who may import whom, read from the sources and seen in a process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("edge", "train", "export", "benchmarks", "tests")
MAY_IMPORT = {"edge": {"edge"}, "train": {"train", "edge"}, "export": {"export", "train", "edge"}}

# The command line reaches these by name, inside the function of a subcommand that needs them.
BORDER = "edge/cli.py"
BEYOND_THE_BORDER = {"train", "export", "benchmarks"}

# All that an edge device installs. Adding a name here means adding it to pyproject.toml's dependencies or an extra.
RUNTIME_LIBRARIES = {
    "av",
    "cryptography",
    "cv2",
    "h11",
    "numpy",
    "onnxruntime",
    "openvino",
    "paho",
    "prometheus_client",
    "pyaudio",
    "pylsl",
    "rich",
    "wsproto",
    "yaml",
}


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST, path: str) -> list[tuple[str, ast.AST]]:
    """Return every absolute name that a module imports, by statement or by importlib with a literal name."""
    names: list[tuple[str, ast.AST]] = []
    package = path.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names.append((".".join([*base, *([node.module] if node.module else [])]), node))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                names.append((node.args[0].value, node))
    return names


def inside_functions(tree: ast.AST) -> set[int]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {id(node) for function in functions for node in ast.walk(function)}


def violations(path: str, source: str) -> list[str]:
    """Return what a module of ours imports against the contract, one line each."""
    package = path.split("/", maxsplit=1)[0]
    tree = ast.parse(source)
    local = inside_functions(tree)
    found = []
    for name, node in imported(tree, path):
        top = name.split(".")[0]
        allowed = set(MAY_IMPORT[package])
        if path == BORDER and id(node) in local:
            allowed |= BEYOND_THE_BORDER
        if top in OURS and top not in allowed:
            found.append(f"{path}:{node.lineno} imports {name}; {package} may import {', '.join(sorted(allowed))}")
        elif package == "edge" and top not in {*OURS, *sys.stdlib_module_names, *RUNTIME_LIBRARIES}:
            found.append(f"{path}:{node.lineno} imports {name}, which is none of the runtime's libraries")
    return found


def test_nobody_imports_against_the_contract():
    found = [
        line
        for path in modules(*MAY_IMPORT)
        for line in violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("edge/fusion.py", "import torch"),
        ("edge/fusion.py", "import scipy.signal"),
        ("edge/fusion.py", "from train import loop"),
        ("edge/fusion.py", "def f():\n    from moodring.train.loop import fit"),
        ("edge/fusion.py", "def f():\n    import importlib\n    importlib.import_module('moodring.export.to_onnx')"),
        ("edge/features/audio/mfcc.py", "from ...train import loop"),
        ("edge/cli.py", "import moodring.train.loop"),
        ("edge/cli.py", "def f():\n    import torch"),
        ("edge/cli.py", "def f():\n    import tests.helpers"),
        ("train/loop.py", "from export import to_onnx"),
        ("train/loop.py", "import benchmarks.latency"),
        ("export/verify.py", "from tests import helpers"),
    ],
)
def test_a_planted_line_is_found(path: str, line: str):
    assert violations(path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("edge/fusion.py", "import numpy\nfrom moodring.types import F32\nfrom . import labels"),
        ("edge/cli.py", "def f():\n    import moodring.train.speech\n    __import__('benchmarks.latency')"),
        ("train/loop.py", "import torch\nfrom moodring.labels import LABELS"),
        ("export/verify.py", "from moodring.train.models import face"),
    ],
)
def test_what_the_contract_allows_is_not_found(path: str, line: str):
    assert not violations(path, line)


IMPORT_ALL = """
import importlib, json, pkgutil, sys, threading, time

optional = ("av", "asyncio", "cv2", "h11", "numpy", "onnxruntime", "openvino", "pyaudio", "rich.live", "wsproto", "yaml")
for name in optional:  # what libraries do when they are imported is not ours to judge
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
import edge

names, missing = ["edge"], []
for module in pkgutil.walk_packages(edge.__path__, "edge."):
    if module.name == "edge.__main__":
        continue
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
    "foreign": sorted({name.split(".")[0] for name in sys.modules}),
    "noticed": noticed,
    "threads": threading.active_count() - threads,
    "seconds": time.process_time() - start,
}))
"""


@pytest.fixture(scope="module")
def process() -> dict[str, object]:
    """Import every module of edge in a process of its own and return what was seen there."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_module_of_edge_was_imported(process):
    assert len(process["modules"]) == len([path for path in modules("edge") if path.name != "__main__.py"])


def test_the_runtime_loads_neither_torch_nor_scipy_nor_training(process):
    heavy = {"torch", "scipy", "matplotlib", "onnx", "skimage", "train", "export", "benchmarks", "tests"}
    assert not heavy & set(process["foreign"])


def test_importing_the_runtime_does_nothing(process):
    assert process["noticed"] == []
    assert process["threads"] == 0
    assert process["seconds"] < 2.0
