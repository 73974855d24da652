"""`moodring batch`: tables equal to those of analyze, whatever interrupts, and what fails.

The recordings are cut from the bundled clip and encoded again.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

import moodring
from moodring import cli
from moodring.analysis.batch import run as batch_run
from moodring.analysis.batch.jobs import find_jobs
from moodring.analysis.batch.output import file_types
from moodring.analysis.batch.work import analyze_part
from moodring.errors import BundleError
from tests.support.media.cuts import write_cuts
from tests.support.signals import face_frame

parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: pip install 'moodring[batch]'")
FILES = 4
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with cuts of the bundled clip, an image, a damaged file, and two files with the same base name."""
    folder = tmp_path_factory.mktemp("clips")
    write_cuts(folder, FILES, seconds=1.2)
    (folder / "sub").mkdir()
    shutil.copy(folder / "clip_0001.mp4", folder / "sub" / "clip_0000.mp4")
    cv2.imwrite(str(folder / "face.png"), face_frame(0))
    (folder / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of a batch that nothing interrupted, with one worker."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert cli.main(["batch", str(clips), "--out", str(out), "--workers", "1", "--csv"]) == 1
    return out


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "moodring.cli", "batch", *map(str, arguments)]


def start(*arguments: object, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
        start_new_session=True, **options,
    )  # fmt: skip


def batch(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = cli.main(["batch", *map(str, arguments)])
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return code, err


def tables(out: Path) -> dict[str, bytes]:
    """Return the bytes of all tables in an output folder."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.suffix in (".parquet", ".csv")}


def records(path: Path) -> list[dict[str, object]]:
    return parquet.read_table(path).to_pylist()


def parts(out: Path) -> dict[str, int]:
    """Return the parts that are done, with the inode of each: a part that is written again gets another one."""
    return {path.name: path.stat().st_ino for path in (out / "parts").glob("*.gz")}


def workers(pid: int) -> list[int]:
    """Return the processes of workers of a batch."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.01)


# Results


def test_the_tables_are_those_of_analyze_bit_for_bit(clips: Path, whole: Path):
    names = [f"clip_{index:04}.mp4" for index in range(FILES)]
    assert [record["path"] for record in records(whole / "files.parquet")] == [*names, "face.png", "sub/clip_0000.mp4"]
    events = records(whole / "events.parquet")
    models = moodring.load_models()
    for file in records(whole / "files.parquet"):
        analysis = moodring.analyze(clips / str(file["path"]), models=models)
        expected = [{name: row[name] for name in row if name != "file"} for row in analysis.to_dicts()]
        found = [row for row in events if row["path"] == file["path"]]
        assert [{name: row[name] for name in row if name != "path"} for row in found] == expected
        summary = analysis.summary.to_dict()
        assert {name: file[name] for name in summary if name != "file"} == {
            name: summary[name] for name in summary if name != "file"
        }
        assert file["frames_captured"] == (1 if analysis.kind == "image" else 30)


def test_failures_and_the_record_are_written(whole: Path):
    (failure,) = csv.DictReader((whole / "failures.csv").open(newline=""))
    assert failure["path"] == "bad.mp4"
    assert failure["reason"].startswith("bad.mp4 cannot be opened as video or audio")
    record = json.loads((whole / "run.json").read_text())
    assert record["state"] == "complete"
    assert record["versions"]["moodring"] == moodring.__version__
    assert record["bundle"]["id"] == moodring.load_models().bundle.id
    assert record["settings"]["fusion"]["rate_hz"] == 5.0
    assert (record["result"]["files"], record["result"]["failed"]) == (FILES + 2, 1)
    assert record["result"]["rows"] == len(records(whole / "events.parquet"))
    assert whole.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in whole.glob("[!.]*"))


def test_csv_tables_have_the_same_rows(whole: Path):
    for name in ("files", "events"):
        rows = list(csv.DictReader((whole / f"{name}.csv").open(newline="")))
        expected = records(whole / f"{name}.parquet")
        assert list(rows[0]) == list(expected[0])
        assert [row["path"] for row in rows] == [record["path"] for record in expected]
        assert rows[3]["label"] == (expected[3]["label"] or "")


def test_the_work_on_one_file_depends_on_the_file_and_the_settings_alone(clips: Path, whole: Path):
    settings = batch_run.read_settings(batch_run.BatchOptions(str(clips), whole))
    job = find_jobs(str(clips)).files[1]
    part, data = analyze_part(job, settings)
    assert (analyze_part(job, settings), part.name) == ((part, data), "clip_0000.mp4")
    assert set(part.row or {}) == set(file_types((), settings)) - {"path"}


def test_a_worker_with_another_bundle_is_refused_by_name(clips: Path, whole: Path):
    settings = batch_run.read_settings(batch_run.BatchOptions(str(clips), whole))
    other = dataclasses.replace(settings, bundle_sha256="0" * 64)
    assert other.key() != settings.key()
    with pytest.raises(BundleError, match=r"is default .* but this batch uses default .000000000000.; install the same bundle"):
        analyze_part(find_jobs(str(clips)).files[1], other)


def test_several_workers_write_the_same_bytes(clips: Path, whole: Path, tmp_path: Path, capfd):
    code, err = batch(capfd, clips, "--out", tmp_path / "out", "--workers", "3", "--csv")
    assert code == 1
    assert tables(tmp_path / "out") == tables(whole)
    assert "7 of 7 files, 1 failed, " in err
    assert "1 of 7 files could not be analysed" in err


def test_shards_write_the_same_bytes_together(clips: Path, whole: Path, tmp_path: Path, capfd):
    out = tmp_path / "out"
    arguments = (clips, "--out", out, "--csv", "--workers", "1", "--shard")
    second = start(*arguments, "2/2")
    first_code = cli.main(["batch", *map(str, arguments), "1/2"])
    _, second_err = second.communicate(timeout=TIMEOUT_S)
    err = capfd.readouterr().err + second_err
    assert sorted([first_code, second.returncode]) == [0, 1]
    assert tables(out) == tables(whole)
    assert "of other shards are not done yet" in err


def test_per_second_and_per_file(clips: Path, tmp_path: Path, capfd):
    code, _ = batch(capfd, f"{clips}/clip_000[01].mp4", "--out", tmp_path / "s", "--per", "second", "--workers", "1")
    assert code == 0
    seconds = records(tmp_path / "s" / "seconds.parquet")
    assert [(row["path"], row["time_s"], row["rows"]) for row in seconds] == [
        (f"clip_000{index}.mp4", start_s, rows) for index in (0, 1) for start_s, rows in ((0.0, 5), (1.0, 1))
    ]
    events = list(moodring.analyze(clips / "clip_0000.mp4"))[:5]
    labelled = [event for event in events if event.label]
    mean = sum((event.probabilities or {})["happy"] for event in labelled) / len(labelled)
    assert seconds[0]["mean_p_happy"] == pytest.approx(mean)
    code, _ = batch(capfd, f"{clips}/clip_000[01].mp4", "--out", tmp_path / "f", "--per", "file", "--workers", "1")
    assert {path.name for path in (tmp_path / "f").iterdir() if path.suffix in (".parquet", ".csv")} == {
        "files.parquet", "failures.csv",
    }  # fmt: skip


def test_a_manifest_is_copied_to_the_table_of_files(clips: Path, tmp_path: Path, capfd):
    rows = [("sub/clip_0000.mp4", "é", "sad"), ("absent.mp4", "b", "x"), ("clip_0000.mp4", "a", "happy")]
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,group,label\n" + "".join(f"{clips}/{','.join(row)}\n" for row in rows))
    code, _ = batch(capfd, manifest, "--out", tmp_path / "out", "--seconds", "0.5", "--workers", "1")
    assert code == 1
    files = records(tmp_path / "out" / "files.parquet")
    assert list(files[0])[:4] == ["path", "group", "manifest_label", "kind"]
    assert [(file["path"], file["group"], file["manifest_label"]) for file in files] == [
        (f"{clips}/{path}", group, label) for path, group, label in (rows[0], rows[2])
    ]
    (failure,) = csv.DictReader((tmp_path / "out" / "failures.csv").open(newline=""))
    assert failure["path"] == f"{clips}/absent.mp4"
    assert "No such file" in failure["reason"]


# Interrupts and failures


def test_killed_twice_and_continued_gives_the_same_tables_and_does_no_file_twice(clips: Path, whole: Path, tmp_path: Path):
    out, done = tmp_path / "out", {}
    chance = random.Random(7)
    for _ in range(2):
        goal = len(done) + chance.randint(1, 2)
        process = start(clips, "--out", out, "--workers", "2", "--csv")
        wait_for(lambda goal=goal: len(parts(out)) >= goal, "part")
        children = workers(process.pid)
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
        wait_for(lambda children=children: not any(Path(f"/proc/{child}").exists() for child in children), "end of the workers")
        assert not (out / "files.parquet").exists()
        now = parts(out)
        assert {name: now[name] for name in done} == done
        done = {name: inode for name, inode in now.items() if name not in failed_parts(out)}
    code = subprocess.run(command(clips, "--out", out, "--csv"), capture_output=True, timeout=TIMEOUT_S, check=False).returncode
    assert code == 1
    assert tables(out) == tables(whole)
    now = parts(out)
    assert {name: now[name] for name in done} == done
    assert len(now) == FILES + 3
    assert list(out.glob("**/*.tmp")) + list(out.glob(".*.part")) == []


def failed_parts(out: Path) -> set[str]:
    """Return the parts of files that failed: they are tried again."""
    return {path.name for path in (out / "parts").glob("*.gz") if json.loads(gzip.open(path).readline())["row"] is None}


def test_only_a_file_that_changed_or_failed_is_done_again(clips: Path, tmp_path: Path, capfd):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("clip_0000.mp4", "clip_0001.mp4", "bad.mp4"):
        shutil.copy(clips / name, folder / name)
    assert batch(capfd, folder, "--out", out, "--workers", "1")[0] == 1
    before = parts(out)
    (folder / "clip_0000.mp4").touch()  # the same data
    shutil.copy(clips / "clip_0002.mp4", folder / "clip_0001.mp4")
    shutil.copy(clips / "clip_0003.mp4", folder / "bad.mp4")
    code, err = batch(capfd, folder, "--out", out, "--workers", "1")
    assert code == 0
    assert "1 of 3 files are done already" in err
    assert len(set(before.items()) & set(parts(out).items())) == 1
    (folder / "clip_0001.mp4").unlink()
    code, err = batch(capfd, folder, "--out", out)
    assert "leave out 1 file of an earlier start" in err
    assert [file["path"] for file in records(out / "files.parquet")] == ["bad.mp4", "clip_0000.mp4"]


def test_a_worker_that_is_killed_loses_no_file(clips: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "out"
    process = start(clips, "--out", out, "--workers", "1", "--csv")
    wait_for(lambda: len(parts(out)) >= 2, "part")
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert tables(out) == tables(whole)


def test_a_file_whose_worker_is_killed_twice_is_listed(clips: Path, tmp_path: Path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    with (folder / "big.wav").open("wb") as big:  # sparse; its hash takes longer than the test needs
        big.truncate(40 << 30)
    process = start(folder, "--out", out, "--workers", "1")
    killed: list[int] = []

    def reading() -> list[int]:
        return [child for child in workers(process.pid) if child not in killed and reads(child, folder / "big.wav")]

    for _ in range(2):
        wait_for(reading, "worker")
        killed += reading()
        os.kill(killed[-1], signal.SIGKILL)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "it is tried once more" in err
    assert "big.wav: the worker process that read it ended 2 times (signal 9, SIGKILL)" in (out / "failures.csv").read_text()
    assert records(out / "files.parquet") == []


def reads(pid: int, path: Path) -> bool:
    """Return whether a process has a file open."""
    try:
        return any(entry.resolve() == path for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def test_an_interrupt_says_how_to_continue(clips: Path, tmp_path: Path):
    out = tmp_path / "out"
    process = start(clips, "--out", out, "--workers", "1")
    wait_for(lambda: parts(out), "part")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert " of 7 files are done; the same command continues with the others\nmoodring: interrupted\n" in err
    assert "Traceback" not in err
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == ["parts", "run.json"]
    assert list(out.glob("parts/.*")) == []


def test_a_full_disk_ends_the_batch_and_leaves_nothing_half_written(clips: Path, tmp_path: Path):
    out = tmp_path / "out"
    limit = 1500  # bytes: run.json fits, a part does not
    process = start(
        clips, "--out", out, "--workers", "1",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "parts cannot be written (File too large); make space" in err
    assert "Traceback" not in err
    assert not list(out.glob("*.parquet"))
    assert list(out.glob("parts/.*")) == []


def test_a_full_disk_at_the_end_leaves_the_tables_as_they_were(clips: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    limit = max(map(len, tables(whole).values())) - 1  # bytes
    process = start(
        clips, "--out", out, "--workers", "1",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "moodring: File too large; check that" in err.splitlines()[-1]
    assert tables(out) == tables(whole)
    assert list(out.glob(".*.part")) == []


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("closed.png", "line\nbreak é.png", os.fsdecode(b"byte\xff.png")):
        cv2.imwrite(str(tmp_path / "face.png"), face_frame(0))
        (tmp_path / "face.png").rename(folder / name)
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "closed.png").chmod(0)
    yield folder
    (folder / "closed.png").chmod(0o600)


def test_odd_names_are_kept_and_what_cannot_be_read_is_listed(unreadable: Path, tmp_path: Path, capfd):
    listed = tmp_path / "list"
    listed.write_bytes(b"\0".join(b"in/" + os.fsencode(path.name) for path in sorted(unreadable.iterdir())))
    code, _ = batch(capfd, listed, "--out", tmp_path / "out", "--csv", "--workers", "1")
    assert code == 1
    paths = [record["path"] for record in records(tmp_path / "out" / "files.parquet")]
    assert {"in/line\nbreak é.png", "in/byte\\xff.png"} <= set(paths)
    assert len(paths) == (2 if os.geteuid() else 3)
    assert [row["path"] for row in csv.DictReader((tmp_path / "out" / "files.csv").open(newline=""))] == paths
    failures = {row["path"]: row["reason"] for row in csv.DictReader((tmp_path / "out" / "failures.csv").open(newline=""))}
    assert "is a pipe" in failures["in/pipe.png"]
    assert "No such file" in failures["in/gone.png"]
    if os.geteuid():  # root may read it
        assert "Permission denied" in failures["in/closed.png"]


# Command line


def test_other_settings_and_folders_of_others_are_refused(clips: Path, whole: Path, tmp_path: Path, capfd):
    before = tables(whole)
    code, err = batch(capfd, clips, "--out", whole, "--set", "fusion.rate_hz=2", "--per", "file")
    assert code == 2
    assert 'other settings: settings.per was "event", is "file"; settings.fusion.rate_hz was 5.0, is 2.0' in err
    assert tables(whole) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for out, message in (
        (tmp_path / "mine", "has other files, and no run.json"),
        (tmp_path / "mine" / "thesis.txt", "is a file"),
        (tmp_path / "a" / "b", "does not exist; make it first"),
    ):
        code, err = batch(capfd, clips, "--out", out)
        assert (code, message in err) == (2, True)
    (tmp_path / "mine" / "run.json").write_text("{}")
    code, err = batch(capfd, clips, "--out", tmp_path / "mine")
    assert (code, "is not the record of a batch" in err) == (2, True)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["run.json", "thesis.txt"]


@pytest.mark.parametrize("arguments", [("--shard", "3/2"), ("--shard", "x"), ("--workers", "0"), ("--per", "day"), ()])
def test_a_wrong_command_line_is_refused(clips: Path, tmp_path: Path, arguments: tuple[str, ...], capfd):
    out = ("--out", str(tmp_path / "out")) if arguments else ()
    with pytest.raises(SystemExit) as ended:
        cli.main(["batch", str(clips), *out, *arguments])
    assert ended.value.code == 2
    assert not (tmp_path / "out").exists()
    capfd.readouterr()


def test_two_batches_do_not_share_a_folder(clips: Path, tmp_path: Path, capfd):
    out = tmp_path / "out"
    process = start(clips, "--out", out, "--workers", "1")
    wait_for(lambda: parts(out), "part")
    code, err = batch(capfd, clips, "--out", out)
    assert (code, "is in use by another batch" in err) == (1, True)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)


def test_a_damaged_part_is_named_and_done_again(clips: Path, tmp_path: Path, capfd):
    out = tmp_path / "out"
    arguments = (f"{clips}/clip_000[01].mp4", "--out", out, "--workers", "1", "--seconds", "0.5")
    assert batch(capfd, *arguments)[0] == 0
    before = tables(out)
    part = min((out / "parts").iterdir())
    part.write_bytes(part.read_bytes()[:-9])
    code, err = batch(capfd, *arguments)
    assert (code, f"{part} is damaged" in err) == (1, True)
    assert tables(out) == before
    part.write_bytes(b"nonsense")
    assert batch(capfd, *arguments)[0] == 0
    assert tables(out) == before
