"""A corpus of generated media files, each in a process of its own: exit code, message, and use of what FFmpeg decodes.

usage: python -m benchmarks media_corpus [--json FILE] [--only TEXT] [--folder DIR] [--jobs N]

The committed figures are in docs/benchmarks/media_corpus.json; they take five minutes.

For every file of tests/support/media/corpus.py, ffprobe counts what FFmpeg decodes, and `moodring run --pace max` processes it.
A file fails if the process crashes, prints a traceback or a line that is not its own, takes longer than the limit, ends with
another exit code than the documented one, has no message, uses less than `USED_SHARE` of what FFmpeg decodes of a track, or, in
a file without damage, publishes events for another time than the tracks last.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import machine, write_json
from tests.support.media.corpus import SEED, Recipe, is_available, make, recipes

LIMIT_S = 10.0  # for one process
USED_SHARE, DAMAGED_SHARE = 0.9, 0.7  # of the frames and of the sound that FFmpeg decodes: FFmpeg also shows repaired frames
ROUNDING_S = 0.15  # the summary shows tenths of a second of sound, and a decoder drops its first samples
TICK_S = 0.2
TOLERANCE_S = 0.6  # of the time that events cover
SUMMARY = re.compile(r"(\d+) events .*; (\d+) frames: .*; ([\d.]+) s of sound")


@dataclass(slots=True)
class Decoded:
    """What FFmpeg decodes of a file: frames and duration of the first video track, and duration of the first audio track."""

    video_frames: int = 0
    video_s: float = 0.0
    sound_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What `moodring run` did with one file. `faults` is empty where that is right."""

    name: str
    group: str
    code: int | None = None
    wall_s: float = 0.0
    events: int = 0
    frames: int = 0
    sound_s: float = 0.0
    ffmpeg_frames: int = 0
    ffmpeg_sound_s: float = 0.0
    message: str = ""
    lines: int = 0  # of the message
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        used = f"{self.events} events, {self.frames} frames, {self.sound_s} s of sound"
        decoded = f"FFmpeg decodes {self.ffmpeg_frames} frames, {self.ffmpeg_sound_s} s of sound"
        return f"exit code {self.code} after {self.wall_s} s: {used if self.events else self.message}; {decoded}"


def count_decoded(path: Path) -> Decoded:
    """Return what FFmpeg decodes of a file. Cover images do not count as video."""
    entries = "stream=index,codec_type,avg_frame_rate,sample_rate:stream_disposition=attached_pic:frame=stream_index,nb_samples"
    command = ["ffprobe", "-v", "quiet", "-of", "json", "-show_entries", entries, f"file:{path}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        found = json.loads(done.stdout or b"{}")
    except (subprocess.TimeoutExpired, ValueError):
        return Decoded()
    counts: collections.Counter[int] = collections.Counter()
    for frame in found.get("frames", []):
        counts[frame["stream_index"]] += int(frame.get("nb_samples", 1))
    decoded = Decoded()
    for stream in found.get("streams", []):
        count = counts[stream["index"]]
        if stream.get("codec_type") == "video" and not stream["disposition"]["attached_pic"] and not decoded.video_frames:
            numerator, _, denominator = stream["avg_frame_rate"].partition("/")
            decoded.video_frames = count
            decoded.video_s = count * int(denominator) / int(numerator) if int(numerator) else 0.0
        elif stream.get("codec_type") == "audio":
            decoded.sound_s = decoded.sound_s or round(count / max(1, int(stream.get("sample_rate", 0))), 2)
    return decoded


def run_moodring(path: Path, folder: Path) -> Outcome:
    """Process one file and return what happened."""
    outcome = Outcome(path.name, "")
    events = folder / f"{path.name}.jsonl"
    events.unlink(missing_ok=True)  # of an interrupted measurement
    command = [sys.executable, "-m", "moodring.cli", "run", str(path), "--pace", "max", "--events", str(events)]
    started_s = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=6 * LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        outcome.faults.append(f"no end within {6 * LIMIT_S:.0f} s")
        return outcome
    outcome.wall_s = round(time.monotonic() - started_s, 2)
    outcome.code = done.returncode
    lines = done.stderr.splitlines()
    outcome.message = "; ".join(line.removeprefix("moodring: ").replace(f"{path.parent}/", "") for line in lines)[:400]
    outcome.lines = len(lines)
    if summary := SUMMARY.search(done.stderr):
        outcome.events, outcome.frames, outcome.sound_s = int(summary[1]), int(summary[2]), float(summary[3])
    if "Traceback" in done.stderr:
        outcome.faults.append(f"traceback: {lines[-1]}")
    elif foreign := [line for line in lines if not line.startswith("moodring: ")]:
        outcome.faults.append(f"a line of another program: {foreign[0]}")
    if done.returncode < 0:
        outcome.faults.append(f"crashed with signal {-done.returncode}")
    if events.exists():
        if sum(1 for _ in events.open("rb")) != outcome.events:
            outcome.faults.append("the summary gives another number of events than the file holds")
        events.unlink()
    return outcome


def judge(outcome: Outcome, recipe: Recipe, decoded: Decoded) -> None:
    """Add the faults of an outcome: each is a rule of the documentation that it breaks."""
    faults = outcome.faults
    outcome.group = recipe.group
    outcome.ffmpeg_frames, outcome.ffmpeg_sound_s = decoded.video_frames, decoded.sound_s
    if outcome.wall_s > LIMIT_S:
        faults.append(f"took {outcome.wall_s:.1f} s, more than {LIMIT_S:.0f} s")
    if not (recipe.is_damaged or decoded.video_frames or decoded.sound_s):
        faults.append("FFmpeg decodes nothing of a file without damage")
    if outcome.code not in (0, 1, None):
        faults.append(f"exit code {outcome.code}")
    if outcome.code == 0 and not outcome.events:
        faults.append("exit code 0, but no event")
    if outcome.code == 1 and (outcome.events or outcome.lines != 1 or recipe.name not in outcome.message):
        faults.append("exit code 1 without one message that names the file, or with events")
    share = DAMAGED_SHARE if recipe.is_damaged else USED_SHARE
    if outcome.frames < share * decoded.video_frames:
        faults.append(f"{outcome.frames} frames used, FFmpeg decodes {decoded.video_frames}")
    if outcome.sound_s < share * decoded.sound_s - ROUNDING_S:
        faults.append(f"{outcome.sound_s} s of sound used, FFmpeg decodes {decoded.sound_s} s")
    covered_s, lasts_s = outcome.events * TICK_S, max(decoded.video_s, decoded.sound_s)
    frame_s = decoded.video_s / max(1, decoded.video_frames)
    longest_s = lasts_s * max(1, len(recipe.parts))  # of joined recordings, FFmpeg may read the first alone
    if recipe.is_continuous and lasts_s and not lasts_s - frame_s - TOLERANCE_S <= covered_s <= longest_s + TOLERANCE_S:
        faults.append(f"events for {covered_s:.1f} s, the tracks last {lasts_s:.2f} s")


def examine(recipe: Recipe, folder: Path) -> Outcome | None:
    """Make one file, process it and judge the outcome; None if FFmpeg cannot make it."""
    path = make(recipe, folder)
    if path is None:
        return None
    outcome = run_moodring(path, folder)
    judge(outcome, recipe, count_decoded(path))
    return outcome


def measure(chosen: Sequence[Recipe], folder: Path, jobs: int) -> dict[str, Any]:
    """Examine the files and return the figures."""
    parts = {name for recipe in chosen for name in recipe.parts}
    for recipe in recipes():  # before they are needed, so that no two threads write one file
        if recipe.name in parts or (not recipe.parts and recipe in chosen):
            make(recipe, folder)
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(lambda recipe: examine(recipe, folder), chosen))
    outcomes = [
        examine(recipe, folder) if outcome is not None and outcome.wall_s > LIMIT_S else outcome  # alone, if others delayed it
        for recipe, outcome in zip(chosen, outcomes, strict=True)
    ]
    done = [outcome for outcome in outcomes if outcome is not None]
    failed = [outcome for outcome in done if outcome.faults]
    groups = collections.Counter(outcome.group for outcome in done)
    return {
        "files": len(done),
        "passed": len(done) - len(failed),
        "groups": {
            group: {"files": count, "passed": count - sum(outcome.group == group for outcome in failed)}
            for group, count in groups.items()
        },
        "exit_codes": dict(collections.Counter(str(outcome.code) for outcome in done)),
        "longest_s": max((outcome.wall_s for outcome in done), default=0.0),
        "not_made": [recipe.name for recipe, outcome in zip(chosen, outcomes, strict=True) if outcome is None],
        "failed": [asdict(outcome) for outcome in failed],
        "outcomes": {outcome.name: str(outcome) for outcome in done},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Examine the corpus and write the figures; return 0 if every file passed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks media_corpus", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--only", default="", metavar="TEXT", help="only files whose group or name contains TEXT")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the files here (a temporary folder)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="files at the same time")
    arguments = parser.parse_args(argv)
    if not is_available():
        print("ffmpeg and ffprobe are not installed; install them, for example: sudo apt-get install ffmpeg", file=sys.stderr)
        return 1
    chosen = [recipe for recipe in recipes() if arguments.only in recipe.group or arguments.only in recipe.name]
    given = shlex.join([] if argv is None else argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = measure(chosen, folder, arguments.jobs)
    version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False).stdout.splitlines()[0]
    header = {
        "benchmark": "media_corpus",
        "command": f"python -m benchmarks media_corpus {given}".rstrip(),
        "machine": machine(),
        "ffmpeg": version,
        "seed": SEED,
    }
    write_json(header | figures, arguments.json)
    return 0 if figures["passed"] == figures["files"] else 1
