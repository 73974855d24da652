"""Names of files that look like addresses, options, patterns or markup: a file that exists is a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moodring.address import is_recording, is_url
from moodring.errors import message_line, printable
from tests.support.events import check_lines

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    b"2026-11-28T08:22:19.mp4", b"http:clip.mp4", b"rtsp_clip.mp4", b"file:clip.mp4", b"concat:a|b.mp4", b"data:,x", b"pipe:0",
    b"subfile,,start,1,end,2,,:a.mp4", b"clip.mp4?x=1#t=2", b"100%.mp4", b"clip%03d.mp4", b"*[a]?.mp4", b"[bold]clip.mp4",
    b" clip .mp4", b"new\nline.mp4", b"\x1b[31mred.mp4", b"latin\xe9\xff.mp4", "Ж\u202f\u2028.mp4".encode(), b"-", b"-clip.mp4",
    b"--config", b"none", b"default", b"0", b"~clip.mp4", b"a" * 250 + b".mp4",
]  # fmt: skip
AS_PATH = (b"-", b"none", b"default", b"0")  # these name something else unless they are written as a path
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(tiny_bundle: Path, tmp_path: Path) -> Run:
    """Return a function that runs `moodring run` in the folder of the test with the tiny bundle at full speed."""
    (tmp_path / "tiny.yaml").write_text(f"bundle: {tiny_bundle}\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}

    def run_it(*arguments: object, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "moodring.cli", *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env=environment | (variables or {}),
            timeout=60,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        return done

    return run_it


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:40]))
def test_a_file_that_exists_is_read(run: Run, talking_face: Path, tmp_path: Path, name: bytes):
    shutil.copy(talking_face, os.fsencode(tmp_path) + b"/" + name)
    forms = [["--", b"./" + name], ["--", os.fsencode(tmp_path) + b"/" + name], [b"--video=./" + name]]
    if name not in AS_PATH:
        forms += [["--", name], [b"--video=" + name]]
    for form in forms:
        done = run("run", "--pace", "max", "--config", "tiny.yaml", *form)
        assert done.returncode == 0, done.stderr
        assert len(check_lines(done.stdout.decode())) == (15 if form[0] == "--" else 14)
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["-clip.mp4", "--clip.mp4", "-0", "-:.mp4"])
@pytest.mark.parametrize("form", [[], ["--video"]])
def test_a_file_that_looks_like_an_option_needs_no_mark(
    run: Run, talking_face: Path, tmp_path: Path, name: str, form: list[str]
):
    shutil.copy(talking_face, tmp_path / name)
    shutil.copy(talking_face, tmp_path / "--page")
    shutil.copy(talking_face, tmp_path / "-h")
    done = run("run", *form, name, "--pace", "max", "--config", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert check_lines(done.stdout.decode())
    assert run("run", "-h").stdout.startswith(b"usage: moodring run")


def test_a_file_below_a_folder_that_looks_like_an_address(run: Run, talking_face: Path, tmp_path: Path):
    (tmp_path / "rtsp:" / "camera").mkdir(parents=True)
    shutil.copy(talking_face, tmp_path / "rtsp:" / "camera" / "clip.mp4")
    done = run("run", "rtsp://camera/clip.mp4", "--pace", "max", "--config", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert len(check_lines(done.stdout.decode())) == 15


@pytest.mark.parametrize("name", [b"no\nsuch\x1b[2J\xff.mp4", b"http:clip.mp4", b"-clip.mp4", b"a" * 300 + b".mp4"])
def test_a_missing_file_is_named_on_one_line_without_control_characters(run: Run, name: bytes):
    done = run("run", "--config", "tiny.yaml", "--", name)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith(b": no such file")
    assert b"\x1b" not in line


def test_a_damaged_file_is_named_on_one_line_without_control_characters(run: Run, tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/not\n\x1b[2Jvideo\xff.mp4")).write_text("this is no film\n" * 100)
    done = run("run", "--config", "tiny.yaml", b"not\n\x1b[2Jvideo\xff.mp4")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert rb"not\n\x1b[2Jvideo\udcff.mp4 cannot be opened" in line


@pytest.mark.parametrize("name", [b"events:\xff\n[x].jsonl", b"-events.jsonl", b"http:events"])
def test_event_files_and_reports_of_any_name(run: Run, talking_face: Path, tmp_path: Path, name: bytes):
    done = run("run", talking_face, "--pace", "max", "--config", "tiny.yaml", b"--events=" + name)
    assert done.returncode == 0, done.stderr
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    assert len(check_lines(path.read_text())) == 15
    done = run("report", b"--html=" + name + b".html", "--", name)
    assert done.returncode == 0, done.stderr
    assert f"<h1>{printable(os.fsdecode(name))}</h1>".encode() in path.with_name(path.name + ".html").read_bytes()


def test_a_bundle_in_a_folder_of_any_name(run: Run, tiny_bundle: Path, talking_face: Path, tmp_path: Path):
    name = os.fsdecode(b"bundle:\xff")
    shutil.copytree(tiny_bundle, tmp_path / name)
    for backend in ("onnx", "openvino"):
        (tmp_path / "any.yaml").write_text(f'bundle: "bundle:\\uDCFF"\ninference: {{backend: {backend}}}\n')
        done = run("run", talking_face, "--pace", "max", "--config", "any.yaml")
        if b"not installed" not in done.stderr:
            assert done.returncode == 0, done.stderr
            assert len(check_lines(done.stdout.decode())) == 15


def test_a_corpus_in_a_folder_with_a_colon(run: Run, talking_face: Path, tmp_path: Path):
    folder = tmp_path / "2026:ravdess" / "Actor_01"
    folder.mkdir(parents=True)
    for emotion in range(1, 9):
        shutil.copy(talking_face, folder / f"03-01-{emotion:02d}-01-01-01-01.wav")
    done = run("evaluate", "speech", "--ravdess", "2026:ravdess", "--json", "figures:1.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "figures:1.json").read_text())["n"] == 8


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_output_escapes_what_its_encoding_cannot_express(run: Run, encoding: str):
    done = run("doctor", "--bundle", b"no\xff\xc3\xa9", variables={"PYTHONIOENCODING": encoding})
    assert done.returncode == 1
    assert b"no\\udcff" in done.stdout


def test_names_of_devices_stay_names_of_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("default", "none", "0", "clip"):
        Path(name).touch()
    assert [is_recording(name) for name in ("default", "none", "0", "clip", "./0", "missing")] == [False] * 3 + [True] * 2 + [
        False
    ]


def test_an_address_of_any_length_is_an_address():
    assert is_url("http://camera/" + "token" * 1000)
    assert not is_recording("http://camera/" + "token" * 1000)


def test_messages_escape_control_characters_and_keep_their_lines():
    assert message_line("a\tb\x9b\ud800 é: rtsp://u:p@host\nline 2") == "moodring: a\\tb\\x9b\\ud800 é: rtsp://host\nline 2"
