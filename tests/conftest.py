"""The real recordings: where they are, and what becomes of a test that needs them.

MOODRING_DATA names their folder (`make test DATA=DIR` sets it). Without it, tests that need them skip and say so;
with MOODRING_REQUIRE_DATA=1 such a skip is a failure, so that a run on real data cannot pass by skipping.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

NO_DATA = "no data"


def find_data() -> Path | None:
    named = os.environ.get("MOODRING_DATA")
    return Path(named).resolve() if named else None


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real recordings; skips where there is none."""
    folder = find_data()
    if folder is None:
        pytest.skip(f"{NO_DATA}: run `make test DATA=DIR`, or set MOODRING_DATA")
    if not folder.is_dir():
        pytest.fail(f"MOODRING_DATA={folder} is not a folder")
    return folder


@pytest.fixture(scope="session")
def data_part(data: Path) -> Callable[[str], Path]:
    """Return a function from a path within the recordings, such as `ravdess/Actor_01`, to that path, or a skip."""

    def part(name: str) -> Path:
        path = data / name
        if not path.exists():
            pytest.skip(f"{NO_DATA}: {data} holds no {name}")
        return path

    return part


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


def pytest_runtest_setup(item):
    """A test marked `data` needs the folder even where it does not ask for the fixture."""
    if item.get_closest_marker("data") and find_data() is None:
        pytest.skip(f"{NO_DATA}: run `make test DATA=DIR`, or set MOODRING_DATA")
