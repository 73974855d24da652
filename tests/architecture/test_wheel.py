"""The wheel: one import package, everything that its commands need, and nothing of the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.modules import PACKAGES, ROOT, sources

TREES = (*PACKAGES, "configs")
FILES = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that is built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    for tree in TREES:
        shutil.copytree(ROOT / tree, copy / tree, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, copy / file)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        folder,
        copy,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named 'setuptools'" in done.stderr or "Cannot import 'setuptools" in done.stderr:
        pytest.skip("setuptools is not installed: pip install setuptools")
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a process that imports moodring from the unpacked wheel."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    return {**os.environ, "PYTHONPATH": str(site), "SITE": str(site)}


def test_the_wheel_installs_one_package(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"moodring"}


def test_the_wheel_holds_every_module_and_the_data_of_the_package(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        (module.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py"))
        for module, path in sources(*PACKAGES).items()
    }
    assert modules <= names
    tracked = {path.relative_to(ROOT / "edge").as_posix() for path in (ROOT / "edge").rglob("*") if path.is_file()}
    data = {name for name in tracked if not name.endswith((".py", ".pyc", ".md"))}
    assert {f"moodring/{name}" for name in data} <= names
    assert {"moodring/configs/laptop.yaml", "moodring/configs/train/speech.yaml"} <= names


def test_commands_work_from_the_wheel(installed: dict[str, str], tmp_path: Path):
    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import moodring, moodring.train, moodring.export; print(moodring.__file__)")
    assert where.startswith(installed["SITE"])
    run("-m", "moodring.cli", "run", "--video", "none", "--help")
    events = run(
        "-m", "moodring.cli", "run", f"{installed['SITE']}/moodring/samples/clip.mp4", "--pace", "max", "--seconds", "1"
    )
    (tmp_path / "events.jsonl").write_text(events)
    script = (
        "from moodring import EmotionEvent\nfor line in open('events.jsonl'):\n    print(EmotionEvent.from_json(line).state)"
    )
    assert run("-c", script).split() == ["ok"] * len(events.splitlines())
