"""JSON lines in files and on standard output: appending, full disks, partial writes, rotation."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.errors import PublishError
from moodring.publish.base import ReaderGoneError
from moodring.publish.cloudevents import to_json
from moodring.publish.jsonl import FilePolicy, JsonLines
from tests.support.example_events import EVENT, NO_FACE_EVENT, STATUS


def test_lines_are_appended_unbuffered(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"kept": true}\n')
    lines = JsonLines(str(path))
    lines.publish(EVENT)
    assert path.read_text().splitlines() == ['{"kept": true}', to_json(EVENT)]
    lines.publish(NO_FACE_EVENT)
    lines.close()
    lines.close()
    assert path.read_text().splitlines()[2] == to_json(NO_FACE_EVENT)


@pytest.mark.parametrize("path", ["missing/folder/events.jsonl", "."])
def test_file_that_cannot_be_opened_raises(tmp_path: Path, path: str):
    with pytest.raises(PublishError, match=r"events cannot be written to .*: (No such file|Is a directory)"):
        JsonLines(str(tmp_path / path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_raises():
    lines = JsonLines("/dev/full")
    with pytest.raises(PublishError, match="No space left on device"):
        lines.publish(EVENT)
    lines.close()


def test_closed_reader_raises_with_exit_code_0(monkeypatch: pytest.MonkeyPatch):
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        lines = JsonLines("-")
        lines.publish(EVENT)
        os.close(read_fd)
        with pytest.raises(ReaderGoneError) as caught:
            lines.publish(EVENT)
        lines.close()
    assert caught.value.exit_code == 0


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_partial_writes_give_a_complete_line(tmp_path_factory, sizes: list[int]):
    path = tmp_path_factory.mktemp("partial") / "events.jsonl"
    remaining_sizes = iter(sizes)

    def write_partially(fd: int, data: memoryview) -> int:
        return original_write(fd, data[: next(remaining_sizes, len(data))])

    lines = JsonLines(str(path))
    original_write = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write_partially)
        lines.publish(EVENT)
    lines.close()
    assert path.read_text() == to_json(EVENT) + "\n"


def test_status_events_are_written_if_enabled(tmp_path: Path):
    for enabled in (False, True):
        lines = JsonLines(str(tmp_path / f"{enabled}.jsonl"), FilePolicy(status=enabled))
        lines.publish(STATUS)
        lines.close()
    assert (tmp_path / "False.jsonl").read_text() == ""
    assert (tmp_path / "True.jsonl").read_text() == to_json(STATUS) + "\n"


def test_incomplete_last_line_is_removed(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text(to_json(EVENT) + "\n" + to_json(EVENT)[:100])
    lines = JsonLines(str(path))
    lines.publish(NO_FACE_EVENT)
    lines.close()
    assert path.read_text().splitlines() == [to_json(EVENT), to_json(NO_FACE_EVENT)]


@pytest.mark.parametrize("tail", ["", "\0" * 200_000])
def test_whole_last_line_without_newline_is_kept(tmp_path: Path, tail: str):
    path = tmp_path / "events.jsonl"
    path.write_text(to_json(EVENT) + "\n" * bool(tail) + tail)
    lines = JsonLines(str(path))
    lines.publish(NO_FACE_EVENT)
    lines.close()
    assert [line for line in path.read_text().splitlines() if line != tail] == [to_json(EVENT), to_json(NO_FACE_EVENT)]


def test_other_text_without_newline_is_kept(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("notes")
    lines = JsonLines(str(path))
    lines.publish(NO_FACE_EVENT)
    lines.close()
    assert path.read_text().splitlines() == ["notes", to_json(NO_FACE_EVENT)]


def test_full_disk_leaves_no_partial_line_and_publishing_resumes(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    lines = JsonLines(str(path))
    lines.publish(EVENT)
    original_write = os.write

    def write_half(fd: int, data: memoryview) -> int:
        if len(data) < 500:
            raise OSError(28, "No space left on device")
        return original_write(fd, data[: len(data) // 2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write_half)
        with pytest.raises(PublishError, match="No space left on device"):
            lines.publish(NO_FACE_EVENT)
    assert path.read_text() == to_json(EVENT) + "\n"
    lines.publish(NO_FACE_EVENT)
    lines.close()
    assert path.read_text().splitlines() == [to_json(EVENT), to_json(NO_FACE_EVENT)]


def test_file_rotates_by_size_and_old_files_are_deleted(tmp_path: Path):
    now = iter(range(10**6))
    lines = JsonLines(str(tmp_path / "events.jsonl"), FilePolicy(rotate_mb=0.003, keep_files=2), wall_s=lambda: next(now))
    for seq in range(20):
        lines.publish(dataclasses.replace(EVENT, seq=seq))
    lines.close()
    old = sorted(tmp_path.glob("events-*.jsonl"))
    assert len(old) == 2
    assert all(path.stat().st_size <= 3000 for path in tmp_path.iterdir())
    text = "".join(path.read_text() for path in (*old, tmp_path / "events.jsonl"))
    kept = [json.loads(line)["data"]["seq"] for line in text.splitlines()]
    assert kept == list(range(kept[0], 20))


def test_file_rotates_by_age(tmp_path: Path):
    now_s = [0.0]
    lines = JsonLines(str(tmp_path / "events.jsonl"), FilePolicy(rotate_h=1.0, fsync="always"), wall_s=lambda: now_s[0])
    for hour in (0.0, 0.9, 1.1, 1.5):
        now_s[0] = hour * 3600
        lines.publish(EVENT)
    lines.close()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["events-19700101T010600.000000Z.jsonl", "events.jsonl"]


def test_event_files_are_private_whatever_the_umask(tmp_path: Path):
    before = os.umask(0)
    try:
        with_rotation = JsonLines(str(tmp_path / "events.jsonl"), FilePolicy(rotate_mb=0.003))
        for seq in range(8):
            with_rotation.publish(dataclasses.replace(EVENT, seq=seq))
        with_rotation.close()
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()]
    assert len(modes) >= 3
    assert set(modes) == {0o600}


@pytest.mark.parametrize(("mode", "next_mode"), [(0o640, 0o640), (0o660, 0o660), (0o644, 0o600)])
def test_a_rotation_keeps_the_access_that_the_user_gave_but_never_for_all(tmp_path: Path, mode: int, next_mode: int):
    path = tmp_path / "events.jsonl"
    path.touch()
    path.chmod(mode)
    group = path.stat().st_gid
    if os.geteuid() == 0:
        group = 12_345
        os.chown(path, -1, group)
    lines = JsonLines(str(path), FilePolicy(rotate_mb=0.003))
    assert path.stat().st_mode & 0o777 == mode  # a file that exists stays as it is
    for seq in range(4):
        lines.publish(dataclasses.replace(EVENT, seq=seq))
    lines.close()
    (old,) = tmp_path.glob("events-*.jsonl")
    assert old.stat().st_mode & 0o777 == mode
    assert path.stat().st_mode & 0o777 == next_mode
    assert path.stat().st_gid == group or mode == 0o644
