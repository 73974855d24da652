"""`moodring analyze`: inputs, formats, files that fail, and exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import moodring
from moodring import cli
from moodring.analysis.inputs import expand
from moodring.analysis.row import columns
from moodring.analysis.summary import summary_columns
from moodring.errors import UsageError
from moodring.labels import LABELS
from tests.support.recordings import write_recording
from tests.support.signals import empty_frame, face_frame, voice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an image, a video, a sound, a damaged file, and files that are no media."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "b").mkdir()
    (folder / ".hidden").mkdir()
    cv2.imwrite(str(folder / "b" / "face.PNG"), face_frame(0))
    cv2.imwrite(str(folder / ".hidden" / "face.png"), face_frame(0))
    write_recording(folder / "a.mp4", video_frames=[empty_frame(i) for i in range(25)])
    write_recording(folder / "c.wav", sound=voice(1.0))
    (folder / "bad.mp4").write_text("no video")
    (folder / "notes.txt").write_text("no media")
    os.mkfifo(folder / "pipe.ts")
    return folder


def analyzed(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["analyze", *map(str, arguments)])
    return (code, *capfd.readouterr())


def test_a_folder_stands_for_its_media_files_in_order(folder: Path):
    assert [Path(path).relative_to(folder).as_posix() for path in expand(str(folder))] == [
        "a.mp4", "bad.mp4", "c.wav", "b/face.PNG",
    ]  # fmt: skip


def test_patterns_urls_and_names_are_expanded(folder: Path, tmp_path: Path):
    assert expand(f"{folder}/*.mp4") == [f"{folder}/a.mp4", f"{folder}/bad.mp4"]
    assert expand(f"{folder}/**/*.PNG") == [f"{folder}/b/face.PNG"]
    assert expand(f"{folder}/[b]") == [f"{folder}/b/face.PNG"]
    assert expand("http://10.0.0.7/*.mp4?a=[1]") == ["http://10.0.0.7/*.mp4?a=[1]"]
    assert expand("absent.mp4") == ["absent.mp4"]
    (tmp_path / "a[1].png").touch()
    assert expand(str(tmp_path / "a[1].png")) == [str(tmp_path / "a[1].png")]
    for nothing in ("*.none", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=r"no file matches|contains no image"):
            expand(str(tmp_path / nothing))


def test_a_table_lists_faces_and_summaries_and_names_what_failed(folder: Path, capfd: pytest.CaptureFixture[str]):
    code, out, err = analyzed(capfd, folder, folder / "a.mp4", folder / "absent.mp4")
    assert code == 2
    assert out.split("\n  ")[0] == f"{folder}/a.mp4: video, 1.0 s, 4 rows, 0 face tracks, no label"
    assert f"\n{folder}/b/face.PNG: image, 1 face, a label for 100% of the faces\n  face  label" in out
    assert out.count("a.mp4: ") == 1
    lines = err.splitlines()
    assert lines[0].startswith(f"moodring: {folder}/bad.mp4 cannot be opened")
    assert lines[1:] == [f"moodring: {folder}/absent.mp4: no such file", "moodring: 2 of 5 inputs could not be analysed"]


def test_the_table_can_list_every_row(folder: Path, capfd: pytest.CaptureFixture[str]):
    _, out, _ = analyzed(capfd, folder / "a.mp4", "--per", "event")
    assert [line.split()[:2] for line in out.splitlines()[-5:]] == [
        ["time", "label"],
        *([f"0.{t}", "no_face"] for t in (2, 4, 6, 8)),
    ]


@pytest.mark.parametrize(("arguments", "exit_code"), [((), 0), (("bad.mp4",), 1), (("absent",), 2), (("bad.mp4", "absent"), 2)])
def test_the_exit_code_is_that_of_the_worst_failure(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], exit_code: int
):
    code, out, _ = analyzed(capfd, folder / "c.wav", *(folder / name for name in arguments))
    assert code == exit_code
    assert f"{folder}/c.wav: sound, 1.0 s, 5 rows" in out


def test_csv_has_one_header_and_the_values_of_the_library(folder: Path, capfd: pytest.CaptureFixture[str]):
    code, out, err = analyzed(capfd, folder / "b", folder / "c.wav", "--format", "csv")
    assert (code, err) == (0, "inputs: 2\n")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["file", *columns(LABELS)]
    assert [row["file"] for row in rows] == [f"{folder}/b/face.PNG"] + [f"{folder}/c.wav"] * 5
    (face,) = moodring.analyze(folder / "b" / "face.PNG")
    assert rows[0]["label"] == face.label
    assert float(rows[0]["p_happy"]) == round((face.probabilities or {})["happy"], 4)
    assert rows[0]["speech_label"] == ""


def test_a_row_for_each_file(folder: Path, capfd: pytest.CaptureFixture[str]):
    _, out, _ = analyzed(capfd, folder / "a.mp4", folder / "c.wav", "--format", "csv", "--per", "file")
    first, second = csv.DictReader(io.StringIO(out))
    assert list(first) == list(summary_columns(LABELS))
    assert (first["kind"], first["rows"], first["missing"]) == (
        "video", "4", "no face was found in any frame; the recording has no sound",
    )  # fmt: skip
    assert second["file"] == f"{folder}/c.wav"


def test_json_is_one_document_with_failures(folder: Path, capfd: pytest.CaptureFixture[str]):
    _, out, _ = analyzed(capfd, folder, "--format", "json")
    document = json.loads(out)
    assert [Path(one["file"]).name for one in document["analyses"]] == ["a.mp4", "c.wav", "face.PNG"]
    assert document["failures"] == [{"file": f"{folder}/bad.mp4", "error": document["failures"][0]["error"]}]
    image = document["analyses"][2]
    assert (image["kind"], image["frame_wh"], len(image["rows"])) == ("image", [320, 240], 1)
    assert image["summary"]["shares"][image["rows"][0]["label"]] == 1.0
    _, out, _ = analyzed(capfd, folder / "bad.mp4", "--format", "json", "--per", "file")
    assert json.loads(out)["analyses"] == []


def test_parquet_is_one_table_of_all_files(folder: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: pip install 'moodring[batch]'")
    out = tmp_path / "all.parquet"
    code, *printed = analyzed(capfd, folder / "a.mp4", folder / "c.wav", "--format", "parquet", "--out", out)
    assert (code, printed) == (0, ["", "inputs: 2\n"])
    records = parquet.read_table(out).to_pylist()
    assert records == moodring.analyze(folder / "a.mp4").to_dicts() + moodring.analyze(folder / "c.wav").to_dicts()
    assert out.stat().st_mode & 0o777 == 0o600


def test_an_output_that_exists_stays_and_a_wrong_one_is_refused_before_the_work(folder: Path, tmp_path: Path, capfd):
    (tmp_path / "here.csv").write_text("mine")
    code, _, err = analyzed(capfd, folder / "c.wav", "--format", "csv", "--out", tmp_path / "here.csv")
    assert (code, (tmp_path / "here.csv").read_text()) == (2, "mine")
    assert "exists and stays as it is" in err
    code, _, err = analyzed(capfd, folder / "c.wav", "--out", tmp_path / "absent" / "a.txt")
    assert code == 2
    assert "does not exist; make it first" in err


def test_settings_change_the_analysis_and_errors_name_their_place(folder: Path, capfd: pytest.CaptureFixture[str]):
    code, out, _ = analyzed(capfd, folder / "c.wav", "--set", "fusion.rate_hz=10")
    assert code == 0
    assert "10 rows" in out
    code, _, err = analyzed(capfd, folder / "c.wav", "--set", "bundle=nowhere")
    assert code == 1
    assert err.startswith("moodring: --set bundle")
    assert analyzed(capfd, folder / "c.wav", "--raw-audio", "s99")[0] == 2


def test_wrong_names_in_a_path_are_printed_safely(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = tmp_path / "a\x1b[2J\udcff.png"
    cv2.imwrite(str(tmp_path / "face.png"), face_frame(0))
    (tmp_path / "face.png").rename(path)
    for form in ("table", "csv", "json"):
        code, out, _ = analyzed(capfd, path, "--format", form)
        assert code == 0
        assert "\x1b" not in out


def started(*arguments: object, **options) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "moodring.cli", "analyze", *map(str, arguments)], stderr=subprocess.PIPE, **options
    )


def test_a_full_disk_is_reported(folder: Path):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = started(folder / "c.wav", "--format", "csv", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"No space left on device" in err
    assert b"Traceback" not in err


def test_an_interrupt_leaves_no_half_written_file(folder: Path, tmp_path: Path):
    out = tmp_path / "rows.csv"
    process = started(*[folder / "c.wav"], folder / "pipe.ts", "--format", "csv", "--out", out)  # it waits for a writer
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".rows.csv.*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert list(tmp_path.iterdir()) == []


def test_standard_input_can_be_an_image(tmp_path: Path):
    image = cv2.imencode(".png", np.hstack([face_frame(0), face_frame(9)]))[1].tobytes()
    process = started("-", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = process.communicate(image, timeout=60)
    assert process.returncode == 0
    assert out.startswith(b"/dev/stdin: image, 2 faces")
