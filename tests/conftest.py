"""What tests share: the real recordings, where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def absent(what: str) -> None:
    """Skip for want of data, or fail where MOODRING_REQUIRE_DATA=1 forbids skipping."""
    if os.environ.get("MOODRING_REQUIRE_DATA") == "1":
        pytest.fail(f"MOODRING_REQUIRE_DATA=1, but {what}")
    pytest.skip(what)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real recordings: MOODRING_DATA, or ../shared/data beside the repository."""
    named = os.environ.get("MOODRING_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        absent(f"{folder} is no folder" if named else "MOODRING_DATA names no folder of recordings (make test DATA=DIR)")
    return folder


@pytest.fixture(scope="session")
def fer2013_csv(data_dir: Path) -> Path:
    """Return the published fer2013.csv, with fer2013new.csv beside it."""
    for folder in (data_dir, data_dir / "fer2013", ROOT / "build" / "data"):
        if (folder / "fer2013.csv").is_file():
            return folder / "fer2013.csv"
    absent("fer2013.csv is not unpacked (make data DATA=DIR)")
    raise AssertionError
