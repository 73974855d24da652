"""A run that requires the recordings cannot pass by skipping."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TESTS = """
import pytest

def test_asks_for_the_folder(data_dir):
    pass

def test_asks_for_a_part(data_path):
    data_path("absent")

@pytest.mark.data
def test_is_marked():
    pass

def test_skips_for_another_reason():
    pytest.skip("no microphone")
"""


def outcome(folder: Path, **environment: str) -> str:
    """Run the tests above with these variables and return pytest's closing line."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_it.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    data: needs recordings\n")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MOODRING_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-c", "pytest.ini", "."]
    done = subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[-1]


def test_without_recordings_tests_skip(tmp_path: Path):
    assert outcome(tmp_path).startswith("4 skipped")


@pytest.mark.parametrize("named", [False, True])
def test_where_recordings_are_required_such_a_skip_fails(tmp_path: Path, named: bool):
    variables = {"MOODRING_DATA": str(tmp_path)} if named else {}
    expected = "1 failed, 2 passed, 1 skipped" if named else "1 skipped, 3 errors"
    assert outcome(tmp_path, MOODRING_REQUIRE_DATA="1", **variables).startswith(expected)
