"""A run whose stage calls are recorded: every call has a record, and results are told from calls without one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.watched_run import TIMED_STAGES

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "edge" / "samples" / "clip.mp4"


def test_every_stage_call_is_recorded(tmp_path: Path):
    file, events = tmp_path / "durations", tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "benchmarks.watched_run", str(file), "run", str(CLIP), "--pace", "max", "--seconds", "3"]
    done = subprocess.run([*command, "--events", str(events)], cwd=ROOT, capture_output=True, text=True, check=True)
    records = np.fromfile(file, np.int64).reshape(-1, 5)
    counts = {stage: int((records[:, 1] == index).sum()) for index, stage in enumerate(TIMED_STAGES)}
    assert set(records[:, 0]) == {0}
    assert (records[:, 3:] >= 0).all()
    assert (np.diff(records[:, 2]) >= 0).all()
    assert counts["fuse"] == len(events.read_text(encoding="utf-8").splitlines()) == 15
    assert counts["see"] == counts["explore"] > counts["face_result"] > 10
    assert counts["face_result"] == int(re.search(r"(\d+) faces classified", done.stderr)[1])
    assert counts["speech_result"] == int(re.search(r"(\d+) windows classified", done.stderr)[1]) > 0


def test_an_invalid_command_line_is_reported_without_a_traceback(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.watched_run", str(tmp_path / "durations"), "run", str(tmp_path / "none.mp4")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("moodring: ")
    assert "Traceback" not in done.stderr
