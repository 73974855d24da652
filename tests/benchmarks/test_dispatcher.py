"""`python -m benchmarks NAME`: it lists every measurement, imports only the chosen one, and rejects unknown names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import MODULES, main, overview

ROOT = Path(__file__).resolve().parents[2]


def test_every_measurement_has_a_description(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    listed = capsys.readouterr().out
    lines = overview().splitlines()
    assert [line.split()[0] for line in lines] == list(MODULES)
    assert all(len(line.split()) > 4 and line in listed for line in lines)


def test_the_list_imports_no_measurement():
    code = (
        "import sys; from benchmarks.__main__ import MODULES, main; main([]); "
        "sys.exit(bool({*MODULES.values()} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_an_unknown_name_is_rejected(capsys: pytest.CaptureFixture[str]):
    assert main(["absent"]) == 2
    assert "no measurement is called 'absent'" in capsys.readouterr().err


def test_the_chosen_measurement_runs_and_its_exit_code_is_returned(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps({"noisy": False, "ratios": {"floor.frame": 1.0}}))
    new.write_text(json.dumps({"noisy": False, "ratios": {"floor.frame": 1.5}}))
    assert main(["check", str(old), str(new)]) == 1
    assert "worse: floor.frame 1.00 -> 1.50" in capsys.readouterr().out
    assert main(["check", str(old), str(old)]) == 0
