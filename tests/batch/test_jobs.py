"""The files of a batch: folders, patterns, lists, manifests, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moodring.analysis.batch.jobs import find_jobs, shard
from moodring.errors import UsageError


def names(named: object) -> list[str]:
    return [job.name for job in find_jobs(str(named)).files]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.wav", "sub/b.mp4", "sub/deep/c.png", ".hidden.mp4", "notes.md"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).touch()
    return tmp_path / "clips"


def test_a_folder_and_a_pattern_name_files_relative_to_it(clips: Path, monkeypatch: pytest.MonkeyPatch):
    assert names(clips) == ["a.wav", "b.mp4", "sub/b.mp4", "sub/deep/c.png"]
    assert names(f"{clips}/**/*.mp4") == ["b.mp4", "sub/b.mp4"]
    assert names(f"{clips}/sub/*.mp4") == ["b.mp4"]
    monkeypatch.chdir(clips)
    assert names(".") == names(clips)
    assert names("*.mp4") == ["b.mp4"]
    assert [job.source for job in find_jobs("*.mp4").files] == [str(clips / "b.mp4")]


def test_a_list_has_a_path_on_each_line_or_after_each_nul(clips: Path):
    (clips / "list.txt").write_bytes(b"\xef\xbb\xbfsub/b.mp4\r\n\n./a.wav\na.wav\nhttp://h/x.mp4\nabsent \xff.mp4\n0\n")
    jobs = find_jobs(str(clips / "list.txt"))
    assert [job.name for job in jobs.files] == ["sub/b.mp4", "./a.wav", "http://h/x.mp4", "absent \udcff.mp4", "0"]
    assert jobs.notes == ("1 repeated path is read once",)
    assert jobs.files[3].path == "absent \\xff.mp4"
    assert jobs.files[4].source == str(clips / "0")  # a file, not the camera 0
    (clips / "list0.txt").write_bytes(b"a\nb.mp4\0b.mp4\0")
    assert names(clips / "list0.txt") == ["a\nb.mp4", "b.mp4"]


def test_a_password_in_an_address_is_not_in_the_tables(tmp_path: Path):
    (tmp_path / "list").write_text("rtsp://user:secret@camera/live\n")
    (job,) = find_jobs(str(tmp_path / "list")).files
    assert "secret" in job.source
    assert "secret" not in job.path


def test_a_manifest_carries_its_other_columns(clips: Path):
    (clips / "m.csv").write_text(',Group,path,label\n0,"x, y",sub/b.mp4,sad\n\n1,z,"a\nb.mp4",\n', encoding="utf-8-sig")
    jobs = find_jobs(str(clips / "m.csv"))
    assert jobs.columns == ("Group", "label")
    assert [(job.name, job.cells) for job in jobs.files] == [("sub/b.mp4", ("x, y", "sad")), ("a\nb.mp4", ("z", ""))]
    (clips / "s.csv").write_text("path;group\na.wav;1\n")
    assert find_jobs(str(clips / "s.csv")).columns == ("group",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,group\na.wav,1\n", "needs one column `path` in its first line; it has: file, group"),
        ("", "needs one column `path` in its first line; it has: none"),
        ("path,path\na,b\n", "needs one column `path`"),
        ("path,g,g\na,1,2\n", "two columns `g`"),
        ("path,g\na.wav,1\n./a.wav,2\n", r"m.csv line 3: ./a.wav is also on line 2; name each file once"),
        ("path,g\na.wav\n", "line 2 has 1 cells, its header 2"),
        ("path,g\n,1\n", "line 2: the path is empty"),
        ('path,g\n"a.wav,1\n', "unexpected end of data; save it as CSV again"),
        ("path\n", "names no file"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        find_jobs(str(tmp_path / "m.csv"))


def test_inputs_that_name_nothing_are_refused(clips: Path):
    (clips / "empty").mkdir()
    (clips / "empty.txt").touch()
    (clips / "binary").write_bytes(b"x" * 100_000)
    for name, message in (
        ("empty", "contains no image"),
        ("*.mkv", "no file matches"),
        ("absent", "No such file"),
        ("empty.txt", "names no file"),
        ("b.mp4", "is one file; use moodring analyze"),
        ("binary", "no list of paths"),
        ("x" * 5000, "too long"),
    ):
        with pytest.raises(UsageError, match=message):
            find_jobs(str(clips / name))
    with pytest.raises(UsageError, match="is one source"):
        find_jobs("http://host/list.txt")


def test_names_that_are_equal_in_the_tables_are_refused(tmp_path: Path):
    (tmp_path / "a\\xff.png").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.png")).touch()
    with pytest.raises(UsageError, match="two files have the path"):
        find_jobs(str(tmp_path))


def test_shards_share_all_files():
    files = tuple(find_jobs(str(Path(__file__).parent / "*.py")).files)
    parts = [shard(files, (i, 3)) for i in (1, 2, 3)]
    assert sorted((job for part in parts for job in part), key=lambda job: job.number) == list(files)
