"""Throughput and memory of `moodring batch`, side by side with a shell loop over `moodring run`, and its results after kills.

usage: python -m benchmarks batch [--files 1000] [--seconds 4] [--workers 2] [--loop 100] [--kills 20] [--source CLIP]
       [--folder DIR] [--json FILE]

The files are cut from the bundled clip, or from each CLIP, and encoded again; or they are those of a folder DIR. The loop runs
`moodring run FILE --pace max` on `loop` of the files, one after the other, as a shell does. Both write events. Memory is the
resident peak of each worker (VmHWM), and the largest resident size of any worker in the first and in the last quarter of the
files.

`kills` ends another batch of the same files with SIGKILL so often, at random times, and continues it; its tables must have the
same bytes, and no part may be written twice. The committed figures, for
400 files, are in docs/benchmarks/batch.json.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av

from benchmarks.report import machine, write_json
from moodring.run.sources import SAMPLE_CLIP
from tests.support.media.cuts import write_cuts

MAX_WORKER_MB, MIN_RATIO = 250, 3.0  # the required figures
SEED = 27
POLL_S = 0.1
KILL_S = (0.3, 6.0)  # after a start
MOODRING = (sys.executable, "-m", "moodring.cli")
TABLES = ("files.parquet", "events.parquet", "failures.csv")


@dataclass(frozen=True)
class Throughput:
    """What a measurement took. The last two are seconds of media a second of wall clock, and a second of CPU time."""

    files: int
    media_s: float
    wall_s: float
    cpu_s: float
    media_s_per_s: float
    media_s_per_cpu_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the figures; return 1 if a required figure is missed or a table differs, otherwise 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks batch", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000, metavar="N", help="files of the batch (1000)")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="duration of each (4)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes of the batch (2)")
    parser.add_argument("--loop", type=int, default=100, metavar="N", help="files of the shell loop (100)")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="also kill a batch so often (0)")
    parser.add_argument("--source", type=Path, action="append", metavar="CLIP", help="cut these recordings (the bundled clip)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="measure the files in this folder, and make none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="moodring-batch-") as folder:
        work = Path(folder)
        if arguments.folder:
            (work / "in").symlink_to(arguments.folder.resolve())
            files = sorted(arguments.folder.iterdir())
        else:
            files = make_files(work / "in", arguments.source or [SAMPLE_CLIP], arguments.files, arguments.seconds)
        loop = measure_loop(files[:: max(1, len(files) // arguments.loop)])
        batch, memory = measure_batch(work, arguments.workers)
        kills = measure_kills(work, arguments.workers, arguments.kills) if arguments.kills else None
    ratio = round(batch.media_s_per_s / loop.media_s_per_s, 2)
    figures: dict[str, Any] = {
        "machine": machine(),
        "workers": arguments.workers,
        "batch": asdict(batch) | memory,
        "shell_loop": asdict(loop),
        "ratio": ratio,
        "cpu_ratio": round(batch.media_s_per_cpu_s / loop.media_s_per_cpu_s, 2),
        "kills": kills,
    }
    write_json(figures, arguments.json)
    right = kills is None or (kills["tables_equal"] and not kills["files_done_twice"])
    return int(not right or ratio < MIN_RATIO or memory["worker_peak_mb"] > MAX_WORKER_MB)


def make_files(folder: Path, sources: Sequence[Path], count: int, seconds: float) -> list[Path]:
    """Write the recordings, equally many of each source."""
    folder.mkdir()
    paths = []
    for index, source in enumerate(sources):
        share = len(range(index, count, len(sources)))
        paths += write_cuts(folder, share, seconds, source)
    return sorted(paths)


def measure_loop(files: Sequence[Path]) -> Throughput:
    """Process the files one after the other with `moodring run`, from one shell."""
    script = f'for file in "$@"; do "{sys.executable}" -m moodring.cli run "$file" --pace max --events - || exit 1; done'
    start_s, start_cpu_s = time.monotonic(), cpu_s()
    subprocess.run(
        ["sh", "-c", script, "sh", *map(str, files)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return _throughput(files, time.monotonic() - start_s, cpu_s() - start_cpu_s)


def measure_batch(work: Path, workers: int) -> tuple[Throughput, dict[str, float]]:
    """Run the batch without interrupts; return its throughput, and the memory of its workers in MB."""
    files = list((work / "in").iterdir())
    count = len(files)
    peak_kb, early_kb, late_kb = 0, 0, 0
    start_s, start_cpu_s = time.monotonic(), cpu_s()
    with start_batch(work, "whole", workers) as process:
        while process.poll() is None:
            time.sleep(POLL_S)
            sizes = [memory_kb(pid) for pid in children(process.pid)]
            peak_kb = max([peak_kb, *(peak for peak, _ in sizes)])
            now_kb = max([0, *(resident for _, resident in sizes)])
            done = len(list((work / "whole" / "parts").glob("*.gz")))
            early_kb = max(early_kb, now_kb) if done <= count / 4 else early_kb
            late_kb = max(late_kb, now_kb) if done >= count * 3 / 4 else late_kb
        wall_s = time.monotonic() - start_s
        if process.returncode:
            raise SystemExit(f"the batch ended with exit code {process.returncode}")
    memory = {"worker_peak_mb": peak_kb, "worker_first_quarter_mb": early_kb, "worker_last_quarter_mb": late_kb}
    return _throughput(files, wall_s, cpu_s() - start_cpu_s), {name: round(kb / 1024, 1) for name, kb in memory.items()}


def measure_kills(work: Path, workers: int, kills: int) -> dict[str, Any]:
    """Kill a batch at random times and continue it; compare its tables and parts with those of the whole one."""
    chance, parts = random.Random(SEED), work / "killed" / "parts"
    before: dict[str, int] = {}
    again, done = 0, []
    for _ in range(kills):
        with start_batch(work, "killed", workers) as process:
            time.sleep(chance.uniform(*KILL_S))
            process.kill()
        time.sleep(POLL_S)  # the workers end with it
        now = {path.name: path.stat().st_ino for path in parts.glob("*.gz")}
        again += sum(now.get(name) != inode for name, inode in before.items())
        before = now
        done.append(len(now))
    with start_batch(work, "killed", workers) as process:
        code = process.wait()
    now = {path.name: path.stat().st_ino for path in parts.glob("*.gz")}
    again += sum(now.get(name) != inode for name, inode in before.items())
    equal = all((work / "killed" / name).read_bytes() == (work / "whole" / name).read_bytes() for name in TABLES)
    shutil.rmtree(work / "killed")
    return {"kills": kills, "files_after_each": done, "exit_code": code, "tables_equal": equal, "files_done_twice": again}


def start_batch(work: Path, out: str, workers: int) -> subprocess.Popen[bytes]:
    """Start a batch of the files into the folder `out`."""
    arguments = ("batch", str(work / "in"), "--out", str(work / out), "--workers", str(workers))
    return subprocess.Popen([*MOODRING, *arguments], stderr=subprocess.DEVNULL)


def children(pid: int) -> Iterator[int]:
    """Yield the worker processes of a batch."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        yield from (int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())
    except OSError:
        return


def memory_kb(pid: int) -> tuple[int, int]:
    """Return the peak and the present resident size of a process; zeros if it has ended."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    except OSError:
        return 0, 0
    peak, resident = (int(lines.get(name, "0 kB").split()[0]) for name in ("VmHWM", "VmRSS"))
    return peak, resident


def cpu_s() -> float:
    """Return the CPU time of all processes that this one started and that have ended, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def media_duration_s(path: Path) -> float:
    """Return the duration of a recording."""
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


def _throughput(files: Sequence[Path], wall_s: float, used_s: float) -> Throughput:
    media_s = sum(map(media_duration_s, files))
    return Throughput(
        files=len(files),
        media_s=round(media_s, 1),
        wall_s=round(wall_s, 1),
        cpu_s=round(used_s, 1),
        media_s_per_s=round(media_s / wall_s, 2),
        media_s_per_cpu_s=round(media_s / used_s, 2),
    )
