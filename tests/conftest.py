"""The real recordings: where they are, and what becomes of a test that needs them.

MOODRING_DATA names their folder (`make test DATA=DIR` sets it); else ../shared/data where it exists. Without them, tests
that need them skip and say so; with MOODRING_REQUIRE_DATA=1 such a skip is a failure, so that a run on real data cannot
pass by skipping.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_DATA = "no data"

# How long an example takes depends on who else uses the machine.
hypothesis.settings.register_profile("moodring", deadline=None)
hypothesis.settings.load_profile("moodring")


def find_data_dir() -> Path | None:
    configured = os.environ.get("MOODRING_DATA")
    default = ROOT.parent / "shared" / "data"
    return Path(configured).resolve() if configured else default if default.is_dir() else None


def skip(reason: str) -> NoReturn:
    pytest.skip(f"{NO_DATA}: {reason}")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real recordings, or skip."""
    folder = find_data_dir()
    if folder is None:
        skip("run `make test DATA=DIR`, or set MOODRING_DATA")
    if not folder.is_dir():
        pytest.fail(f"MOODRING_DATA={folder} is not a folder")
    return folder


@pytest.fixture(scope="session")
def data_path(data_dir: Path) -> Callable[[str], Path]:
    """Return a function from a path within the recordings, such as `ravdess/Actor_01`, to that path, or a skip."""

    def part(name: str) -> Path:
        path = data_dir / name
        if not path.exists():
            skip(f"{data_dir} holds no {name}")
        return path

    return part


@pytest.fixture(scope="session")
def fer2013_csv(data_dir: Path) -> Path:
    """Return the published fer2013.csv, with fer2013new.csv beside it, or skip; `make test` unpacks it."""
    for folder in (data_dir, data_dir / "fer2013", ROOT / "build" / "data"):
        if (folder / "fer2013.csv").is_file():
            return folder / "fer2013.csv"
    skip("fer2013.csv is not unpacked; run `make data DATA=DIR`")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn "skipped: no data" into a failure where data is required."""
    report = yield
    if os.environ.get("MOODRING_REQUIRE_DATA") == "1" and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(NO_DATA):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped though MOODRING_REQUIRE_DATA=1: {reason}"
    return report


def pytest_configure():
    """A suite that runs in the background has Ctrl-C switched off, and so would the commands that it starts and interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    """A test marked `data` needs the folder even where it does not ask for the fixture."""
    if item.get_closest_marker("data") and find_data_dir() is None:
        skip("run `make test DATA=DIR`, or set MOODRING_DATA")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """Return a complete bundle of tiny random networks; not to be changed (tests/support/tiny_bundle.py)."""
    from tests.support.tiny_bundle import write_tiny_bundle  # noqa: PLC0415  needs onnx

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def talking_face(tmp_path_factory) -> Path:
    """Return three seconds of a face and a voice; not to be changed."""
    from tests.support.recordings import write_talking_face  # noqa: PLC0415  needs scikit-image

    return write_talking_face(tmp_path_factory.mktemp("recordings") / "talking_face.mp4")
