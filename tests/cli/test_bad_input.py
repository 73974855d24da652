"""The command with invalid input: the documented exit code, one clear message, and no traceback.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.events import check_lines
from tests.support.recordings import write_empty_wav, write_recording, write_talking_face
from tests.support.signals import empty_frame, voice
from tests.support.tiny_bundle import read_document, write_document

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "moodring.cli"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str

    @property
    def messages(self) -> list[str]:
        return self.stderr.splitlines()


def moodring(*arguments: object, stdout: object = subprocess.PIPE) -> Done:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, cwd="/",
        env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout or "", done.stderr)


def one_message(done: Done, code: int, *parts: str) -> None:
    """Assert the exit code, and one line on standard error that contains these parts."""
    assert done.code == code, done
    assert len(done.messages) == 1, done.stderr
    assert done.messages[0].startswith("moodring: ")
    for part in parts:
        assert part in done.messages[0]


@pytest.fixture
def configured(tiny_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a configuration with the tiny bundle."""

    def write(text: str = "", bundle: Path = tiny_bundle) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(f"bundle: {bundle}\n{text}")
        return path

    return write


@pytest.fixture
def run(configured: Callable[..., Path]) -> Callable[..., Done]:
    """Return a function that runs `moodring run` with the tiny bundle at full speed."""

    def run_it(*arguments: object, config: Path | None = None, **options: object) -> Done:
        return moodring("run", *arguments, "--config", config or configured(), "--pace", "max", **options)

    return run_it


# Recordings


def test_a_valid_recording_gives_events_and_exit_code_0(run, talking_face: Path):
    done = run(talking_face, "--events", "-")
    assert done.code == 0
    events = check_lines(done.stdout)
    assert len(events) == 15
    assert sum(len(event["data"]["modalities"]) == 2 for event in events) >= 8
    assert len(done.messages) == 1
    assert "15 events" in done.messages[0]


def test_events_go_to_standard_output_by_default_when_piped(run, talking_face: Path):
    assert len(check_lines(run(talking_face, "--seconds", 1).stdout)) == 5


def test_a_missing_file(run):
    one_message(run("/no/such/clip.mp4"), 2, "/no/such/clip.mp4: no such file")


@pytest.mark.parametrize("option", ["--video", "--audio"])
@pytest.mark.parametrize("name", ["missing.mp4", "missing.wav", "folder/missing"])
def test_a_missing_video_or_audio_file(run, option: str, name: str):
    other = "--audio" if option == "--video" else "--video"
    one_message(run(option, name, other, "none", "--seconds", 1), 2, f"{name}: no such file")


def test_a_directory(run, tmp_path: Path):
    one_message(run(tmp_path), 2, f"{tmp_path} is a directory")
    one_message(run("--video", tmp_path, "--audio", "none"), 2, "is a directory")


def test_a_text_file_named_mp4(run, tmp_path: Path):
    path = tmp_path / "text.mp4"
    path.write_text("this is no film\n" * 100)
    one_message(run(path), 1, "text.mp4 cannot be opened as video or audio", "complete media file")
    one_message(run("--video", path), 1, "text.mp4 cannot be opened")


@pytest.mark.parametrize("name", ["empty.mp4", "empty.wav"])
def test_a_file_of_zero_bytes(run, tmp_path: Path, name: str):
    (tmp_path / name).touch()
    one_message(run(tmp_path / name), 1, name)


def test_a_zero_length_wav(run, tmp_path: Path):
    one_message(run(write_empty_wav(tmp_path / "empty.wav")), 1, "empty.wav contains no audio")


def test_a_truncated_recording_without_its_index(run, tmp_path: Path, talking_face: Path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(talking_face.read_bytes()[:20_000])
    one_message(run(path), 1, "cut.mp4 cannot be opened", "complete media file")


def test_a_truncated_recording_with_its_index_is_read_as_far_as_possible(run, tmp_path: Path):
    whole = write_talking_face(tmp_path / "whole.mp4", seconds=4.0, options={"movflags": "faststart"}).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    done = run(path, "--events", "-")
    assert done.code == 0
    assert sum("cut.mp4 ends after" in message and "truncated or damaged" in message for message in done.messages) >= 1
    assert len(check_lines(done.stdout)) >= 4


def test_a_clip_without_a_face(run, tmp_path: Path):
    path = write_recording(tmp_path / "empty.mp4", video_frames=[empty_frame(i) for i in range(50)])
    done = run(path, "--events", "-")
    assert done.code == 0
    events = check_lines(done.stdout)
    assert {event["data"]["state"] for event in events} == {"no_face"}
    assert sum("no face was found" in message for message in done.messages) == 1


def test_a_silent_clip(run, tmp_path: Path):
    path = write_recording(tmp_path / "silent.wav", sound=np.zeros(48_000, np.float32))
    done = run(path, "--events", "-")
    assert done.code == 0
    events = check_lines(done.stdout)
    assert len(events) == 15
    assert {event["data"]["state"] for event in events} == {"no_speech"}
    assert sum("no speech was found" in message for message in done.messages) == 1


def test_a_silent_clip_without_a_face_reports_both(run, tmp_path: Path):
    path = write_recording(
        tmp_path / "nothing.mp4", video_frames=[empty_frame(i) for i in range(50)], sound=np.zeros(32_000, np.float32)
    )
    done = run(path, "--events", "-")
    assert done.code == 0
    assert "no face was found" in done.stderr
    assert "no speech was found" in done.stderr


def test_an_audio_file_as_video(run, tmp_path: Path):
    path = write_recording(tmp_path / "sound.wav", sound=voice(0.5))
    one_message(run("--video", path), 1, "sound.wav contains no video")


def test_source_and_video_exclude_each_other(run, talking_face: Path):
    one_message(run(talking_face, "--video", talking_face), 2, "name either one SOURCE, or --video and --audio, not both")


def test_neither_video_nor_audio(run):
    one_message(run("--video", "none", "--audio", "none"), 2, "video and audio are both none")


def test_an_unreachable_server(run):
    one_message(run("http://127.0.0.1:9/stream"), 1, "http://127.0.0.1:9/stream cannot be opened", "server is up")


# Configuration and usage


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("fusionn:\n  rate_hz: 5", ["unknown key fusionn", "did you mean fusion?"]),
        ("fusion:\n  rate_h: 5", ["unknown key fusion.rate_h", "did you mean fusion.rate_hz?"]),
        ("fusion:\n  rate_hz: fast", ["fusion.rate_hz must be a number, got 'fast'"]),
        ("fusion:\n  rate_hz: 1000", ["fusion.rate_hz must lie in 0.2..50.0, got 1000"]),
        ("fusion:\n  method: magic", ["fusion.method must be one of feature, weighted, voting"]),
        ("fusion: [", ["is not valid YAML"]),
        ("face:\n  rate_hz: .nan", ["face.rate_hz must lie in"]),
    ],
)
def test_an_invalid_configuration(run, configured, talking_face: Path, text: str, parts: list[str]):
    one_message(run(talking_face, config=configured(text)), 2, "config.yaml", *parts)


def test_a_missing_configuration(run, talking_face: Path):
    one_message(run(talking_face, config="/no/such.yaml"), 2, "configuration /no/such.yaml cannot be read")


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["dance"], ["run", "--pace", "slow"], ["run", "--seconds", "0"], ["run", "--seconds", "-1"],
        ["run", "--seconds", "nan"], ["run", "--seconds", "inf"], ["run", "--seconds", "soon"], ["run", "a", "b"],
        ["run", "--colour"], ["evaluate"], ["evaluate", "speech"],
        ["evaluate", "speech", "--ravdess", "x", "--json", "y", "--actors", "one"],
        ["evaluate", "speech", "--ravdess", "x", "--json", "y", "--actors", "1,,2"],
        ["evaluate", "speech", "--ravdess", "x", "--json", "y", "--actors", "0"],
        ["evaluate", "speech", "--ravdess", "x", "--json", "y", "--actors", "25"],
        ["evaluate", "speech", "--ravdess", "x", "--json", "y", "--snr", "nan"],
        ["evaluate", "speech", "--ravdess", "x", "--json", "y", "--precision", "int4"],
        ["evaluate", "fusion", "--fer2013", "x", "--ravdess", "x", "--json", "y", "--pairs", "0"],
        ["evaluate", "fusion", "--fer2013", "x", "--ravdess", "x", "--json", "y", "--pairs", "-4"],
        ["evaluate", "fusion", "--fer2013", "x", "--ravdess", "x", "--json", "y", "--seed", "-1"],
        ["evaluate", "face", "--json", "y"], ["train", "dance"], ["export"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_explained_in_the_last_line(arguments: list[str]):
    done = moodring(*arguments)
    assert done.code == 2
    assert done.stdout == ""
    assert "error: " in done.messages[-1]
    assert sum("error: " in message for message in done.messages) == 1
    assert "value: " not in done.messages[-1]  # argparse's "invalid _function value" explains nothing


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["evaluate", "speech", "--help"], ["--version"]])
def test_help_exits_with_0(arguments: list[str]):
    done = moodring(*arguments)
    assert (done.code, done.stderr) == (0, "")
    assert "moodring" in done.stdout


# Bundles


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("name", ["bundle.json", "face.fp32.onnx", "speech.fp32.onnx", "fusion.fp32.onnx"])
def test_a_bundle_with_one_flipped_bit(run, configured, copied: Path, talking_face: Path, name: str):
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(bytes(data))
    one_message(run(talking_face, config=configured(bundle=copied)), 1, name, "restore it or export again")


def test_a_bundle_for_another_spec(run, configured, copied: Path, talking_face: Path):
    document = read_document(copied)
    document["spec"]["version"] = 2
    write_document(copied, document)
    done = run(talking_face, config=configured(bundle=copied))
    one_message(done, 1, "not one this runtime implements", "update moodring, or export the model again")


def test_a_missing_bundle(run, configured, talking_face: Path, tmp_path: Path):
    done = run(talking_face, config=configured(bundle=tmp_path / "none"))
    one_message(done, 1, "is not a model bundle", "make one with `moodring export`")


def test_a_precision_that_the_bundle_lacks(run, configured, talking_face: Path, tiny_bundle: Path, tmp_path: Path):
    done = run(talking_face, config=configured("inference:\n  precision: int8"))
    one_message(done, 1, "fp32, not int8", "choose one of these, or export it with --precision int8")
    folder = tmp_path / "Actor_01"
    folder.mkdir()
    write_recording(folder / "03-01-05-01-01-01-01.wav", sound=voice(1.5))
    arguments = ["--bundle", tiny_bundle, "--ravdess", tmp_path, "--json", tmp_path / "out.json", "--precision", "int8"]
    done = moodring("evaluate", "speech", *arguments)
    assert done.code == 1
    assert "fp32, not int8" in done.messages[-1]
    assert not (tmp_path / "out.json").exists()


# Where events go


@pytest.mark.parametrize("path", ["/no/such/folder/events.jsonl", "/"])
def test_an_events_file_that_cannot_be_written(run, talking_face: Path, path: str):
    one_message(run(talking_face, "--events", path), 1, f"events cannot be written to {path}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(run, talking_face: Path):
    one_message(run(talking_face, "--events", "/dev/full"), 1, "events cannot be written to /dev/full: No space left on device")
    with Path("/dev/full").open("w") as full:
        done = run(talking_face, "--events", "-", stdout=full)
    one_message(done, 1, "events cannot be written to standard output: No space left on device")


def test_a_closed_pipe_is_not_a_failure(configured, talking_face: Path):
    writer = subprocess.Popen(
        [*COMMAND, "run", talking_face, "--config", configured(), "--pace", "max", "--events", "-"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    first = writer.stdout.readline()  # as `| head -1` does
    writer.stdout.close()
    stderr = writer.stderr.read()
    assert writer.wait(timeout=30) == 0
    assert json.loads(first)["data"]["seq"] == 0
    assert stderr.splitlines() == ["moodring: the reader closed standard output; stopping"]


def test_a_standard_output_that_is_closed_at_the_start(configured, talking_face: Path):
    arguments = ["run", talking_face, "--config", configured(), "--pace", "max"]
    shell = 'exec "$@" >&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    one_message(Done(done.returncode, "", done.stderr), 1, "events cannot be written to standard output")


# Interruption


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_cleanly(configured, talking_face: Path, tmp_path: Path, sent: signal.Signals):
    events = tmp_path / "events.jsonl"
    running = subprocess.Popen(
        [*COMMAND, "run", talking_face, "--config", configured(), "--pace", "realtime", "--events", events],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    wait_for(lambda: events.exists() and events.read_text().count("\n") >= 3)
    running.send_signal(sent)
    stdout, stderr = running.communicate(timeout=20)
    assert running.returncode == 130
    assert stdout == ""
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "moodring: interrupted"
    assert 3 <= len(check_lines(events.read_text())) < 15


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_an_unwritable_path_is_named_in_one_message(monkeypatch, capsys):
    from moodring import cli  # noqa: PLC0415
    from moodring.diagnostics import doctor  # noqa: PLC0415

    def fail(**_options: object) -> int:
        raise PermissionError(13, "Permission denied", "/nowhere/speech.json")

    monkeypatch.setattr(doctor, "main", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err.startswith("moodring: /nowhere/speech.json: Permission denied; check that the path exists")
