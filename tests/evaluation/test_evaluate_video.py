"""`moodring evaluate video`: RAVDESS videos, with face and voice of one recording, through the pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from moodring.cli import main
from tests.support.recordings import write_recording
from tests.support.signals import face_frame, voice

CODES = {"ANG": "05", "DIS": "07", "FEA": "06", "HAP": "03", "NEU": "01", "SAD": "04"}


def evaluate(folder: Path, out: Path, *arguments: str) -> int:
    return main(["evaluate", "video", "--ravdess", str(folder), "--json", str(out), *arguments])


def video_path(folder: Path, code: str, actor: int = 1) -> Path:
    path = folder / f"Actor_{actor:02d}" / f"01-01-{code}-01-01-01-{actor:02d}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.data
def test_video_evaluation_of_true_pairs(data_path, tmp_path: Path):
    for clip in sorted(data_path("crema_d_sample/clips").iterdir()):
        shutil.copy(clip, video_path(tmp_path, CODES[clip.stem.split("_")[2]]))
    assert evaluate(tmp_path, tmp_path / "out.json") == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["what"] == "video"
    assert figures["pairing"] == "true pairs: face and voice of one recording"
    assert figures["n"] + figures["no_answer"] == 6
    assert figures["both"] > 0.3
    assert figures["face_alone"]["n"] == 6
    assert figures["speech_alone"]["n"] >= 4
    assert {figures["per_class"][label]["n"] for label in ("angry", "happy", "sad", "calm")} == {0, 1}


def test_video_without_sound_fails_the_evaluation(tmp_path: Path, tiny_bundle: Path):
    write_recording(video_path(tmp_path, "03"), video_frames=[face_frame(i) for i in range(50)])
    write_recording(video_path(tmp_path, "04", 2), sound=voice(2.0))
    assert evaluate(tmp_path, tmp_path / "out.json", "--bundle", str(tiny_bundle), "--actors", "1") == 1
    assert not (tmp_path / "out.json").exists()


def test_video_evaluation_reports_the_empty_folder(tmp_path: Path, capsys):
    assert evaluate(tmp_path, tmp_path / "out.json") == 1
    assert "holds no RAVDESS recordings (Actor_NN/01-01-EE-II-SS-RR-AA.mp4)" in capsys.readouterr().err
