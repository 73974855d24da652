"""Fixtures of all tests, among them the folder of real recordings.

MOODRING_DATA names the folder (`make test DATA=DIR` sets it); the default is ../shared/data, if it exists. Tests that need
missing recordings are skipped with the reason. With MOODRING_REQUIRE_DATA=1 they fail instead.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

import moodring  # noqa: F401  first: it switches off the telemetry of the libraries that tests import

ROOT = Path(__file__).resolve().parents[1]
NO_DATA = "no data"

# No deadline: the duration of an example depends on the load of the machine.
hypothesis.settings.register_profile("moodring", deadline=None)
hypothesis.settings.load_profile("moodring")


def find_data_dir() -> Path | None:
    """Return the folder of real recordings; None if there is none."""
    configured = os.environ.get("MOODRING_DATA")
    default = ROOT.parent / "shared" / "data"
    return Path(configured).resolve() if configured else default if default.is_dir() else None


def skip_without_data(reason: str) -> NoReturn:
    """Skip the test with a reason that `pytest_runtest_makereport` recognises."""
    pytest.skip(f"{NO_DATA}: {reason}")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real recordings, or skip the test."""
    folder = find_data_dir()
    if folder is None:
        skip_without_data("run `make test DATA=DIR`, or set MOODRING_DATA")
    if not folder.is_dir():
        pytest.fail(f"MOODRING_DATA={folder} is not a folder")
    return folder


@pytest.fixture(scope="session")
def data_path(data_dir: Path) -> Callable[[str], Path]:
    """Return a function that returns a path in the recordings, such as `ravdess/Actor_01`, or skips the test."""

    def find(name: str) -> Path:
        path = data_dir / name
        if not path.exists():
            skip_without_data(f"{data_dir} has no {name}")
        return path

    return find


@pytest.fixture(scope="session")
def fer2013_csv(data_dir: Path) -> Path:
    """Return the published fer2013.csv, with fer2013new.csv in the same folder, or skip the test. `make data` unpacks it."""
    for folder in (data_dir, data_dir / "fer2013", ROOT / "build" / "data"):
        if (folder / "fer2013.csv").is_file():
            return folder / "fer2013.csv"
    skip_without_data("fer2013.csv is not unpacked; run `make data DATA=DIR`")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With MOODRING_REQUIRE_DATA=1, turn a skip for missing data into a failure."""
    report = yield
    if os.environ.get("MOODRING_REQUIRE_DATA") == "1" and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(NO_DATA):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped, but MOODRING_REQUIRE_DATA=1: {reason}"
    return report


def pytest_configure():
    """Enable SIGINT. A shell disables it for a background job, and the commands that the tests interrupt inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    """Skip a test marked `data` without the folder, even if it does not use the fixture."""
    if item.get_closest_marker("data") and find_data_dir() is None:
        skip_without_data("run `make test DATA=DIR`, or set MOODRING_DATA")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """Return a complete, read-only bundle of tiny random networks (tests/support/tiny_bundle.py)."""
    from tests.support.tiny_bundle import write_tiny_bundle  # noqa: PLC0415  imports onnx

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def talking_face(tmp_path_factory) -> Path:
    """Return a read-only video of three seconds with a face and a voice."""
    from tests.support.recordings import write_talking_face  # noqa: PLC0415  imports scikit-image

    return write_talking_face(tmp_path_factory.mktemp("recordings") / "talking_face.mp4")
