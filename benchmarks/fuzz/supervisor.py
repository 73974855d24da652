"""Runs a harness in a child process, restarts it after each finding, and keeps the inputs of the findings.

libFuzzer writes the input of an exception, a signal, or a check that takes too long or uses too much memory. The supervisor
kills a child that makes no progress at all, and takes its input from the file `current`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzz.harness import CORPUS, CURRENT

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 10  # for one input
MAX_RSS_MB = 2048
SILENCE_S = 20.0  # without a new input, beyond the limit for one, the child is killed
MEMORY = Path("/dev/shm")  # noqa: S108  a folder in memory, for the files that each input needs
FINDINGS = "findings"
POLL_S = 0.2
MAX_FINDINGS = 10  # of one harness; then it stops
MAX_SUMMARY_CHARS = 300
SUSPECTS = ("timeout", "oom")  # a loaded machine or a leak over many inputs causes these as well: the input is run alone
PROGRESS = re.compile(r"^#(\d+)\s.*?\bcov: (\d+)", re.MULTILINE)
EXECUTED = re.compile(r"^(?:#(\d+)\s|stat::number_of_executed_units: (\d+))", re.MULTILINE)
WRITTEN = re.compile(r"Test unit written to (.+)")
EXCEPTION = re.compile(r"Uncaught Python exception: ===\s*\n(.*?)(?:\n\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One input that broke a rule. `kind` is crash, timeout, oom or killed; `summary` names the exception or the signal."""

    kind: str
    path: str
    summary: str


@dataclass(slots=True)
class Outcome:
    """What fuzzing one harness gave. `edges` counts the edges of moodring's instrumented bytecode that were covered."""

    seconds: float = 0.0
    seed: int = 0
    executions: int = 0
    edges: int = 0
    corpus: int = 0  # inputs, each with coverage of its own
    restarts: int = 0
    findings: list[Finding] = field(default_factory=list)
    not_reproduced: list[Finding] = field(default_factory=list)  # suspects that pass when they run alone
    failure: str = ""  # why the child could not fuzz


def fuzz(module: str, seconds: float, folder: Path, seed: int, *, limit_s: int = LIMIT_S) -> Outcome:
    """Fuzz the harness of a module for a time. `folder` is replaced; it keeps the log, the corpus and the findings."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / FINDINGS).mkdir(parents=True)
    memory = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="moodring-fuzz-", dir=memory) as work:
        return _Run(module, folder.resolve(), Path(work), limit_s).fuzz(seconds, seed)


@dataclass(frozen=True, slots=True)
class _Run:
    """The folders and the limit of one harness. `work` is for the files of the child."""

    module: str
    folder: Path
    work: Path
    limit_s: int

    def fuzz(self, seconds: float, seed: int) -> Outcome:
        outcome, findings = Outcome(seed=seed), self.folder / FINDINGS
        started_s = time.monotonic()
        while (left_s := seconds - (time.monotonic() - started_s)) >= 1 and len(outcome.findings) < MAX_FINDINGS:
            options = (
                str(self.folder / CORPUS), f"-artifact_prefix={findings}/", "-reload=0",
                f"-seed={seed + outcome.restarts}", f"-max_total_time={int(left_s)}", "-print_final_stats=1",
            )  # fmt: skip
            code, log = self.run_child(options, left_s)
            _count(outcome, log)
            if code == 0:
                break
            outcome.restarts += 1
            finding = self.find(code, log)
            if finding is None:
                outcome.failure = log[-MAX_SUMMARY_CHARS:]
                break
            is_certain = finding.kind not in SUSPECTS or self.fails_alone(Path(finding.path))
            (outcome.findings if is_certain else outcome.not_reproduced).append(finding)
            self.remove_from_corpus(Path(finding.path).read_bytes())
        outcome.seconds = round(time.monotonic() - started_s, 1)
        outcome.corpus = len(list((self.folder / CORPUS).glob("*")))
        return outcome

    def run_child(self, options: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run the child to its end, or until it makes no progress; return its exit code and what it wrote."""
        limits = (f"-timeout={self.limit_s}", f"-rss_limit_mb={MAX_RSS_MB}", "-report_slow_units=1000000")
        command = [sys.executable, "-m", "benchmarks.fuzz.child", self.module, str(self.folder), str(self.work)]
        inherited = [str(Path(entry).resolve()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        path = os.pathsep.join([*inherited, str(ROOT)])
        log, current = self.folder / "log.txt", self.work / CURRENT
        current.unlink(missing_ok=True)
        with log.open("ab") as file:
            before = file.tell()
            child = subprocess.Popen(
                [*command, *options, *limits], cwd=self.work, env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.DEVNULL,
                stdout=file, stderr=file,
            )  # fmt: skip
            end_s = time.monotonic() + seconds + self.limit_s + SILENCE_S
            while child.poll() is None:
                time.sleep(POLL_S)
                silence_s = time.time() - current.stat().st_mtime if current.exists() else 0
                if time.monotonic() > end_s or silence_s > self.limit_s + SILENCE_S:
                    child.kill()
                    child.wait()
        with log.open("rb") as written:
            written.seek(before)
            return child.returncode, written.read().decode("utf-8", "replace")

    def find(self, code: int, log: str) -> Finding | None:
        """Return what ended the child; None if it ran no input."""
        if written := WRITTEN.search(log):
            path = Path(written[1])
            return Finding(path.name.partition("-")[0], _shown(path), _summary(code, log))
        current = self.work / CURRENT
        if code >= 0 or not current.exists():
            return None
        data = current.read_bytes()
        path = self.folder / FINDINGS / f"killed-{hashlib.sha256(data).hexdigest()[:40]}"
        path.write_bytes(data)
        return Finding("killed", _shown(path), _summary(code, log))

    def remove_from_corpus(self, data: bytes) -> None:
        """Remove an input that fails, so that the next child does not begin with it."""
        for path in (self.folder / CORPUS).iterdir():
            if path.read_bytes() == data:
                path.unlink()

    def fails_alone(self, path: Path) -> bool:
        """Run one input in a process of its own; return whether it fails."""
        return self.run_child((str(path.resolve()), f"-artifact_prefix={self.work}/alone-"), self.limit_s)[0] != 0


def _shown(path: Path) -> str:
    """Return a path relative to the working folder, if it lies there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _count(outcome: Outcome, log: str) -> None:
    executed = [int(number or total) for number, total in EXECUTED.findall(log)]
    outcome.executions += max(executed, default=0)
    outcome.edges = max([outcome.edges, *(int(edges) for _, edges in PROGRESS.findall(log))])


def _summary(code: int, log: str) -> str:
    """Return the exception and the line that raised it, or what libFuzzer wrote, in one line."""
    if found := EXCEPTION.search(log):
        lines = found[1].splitlines()
        places = [line.strip() for line in lines if line.strip().startswith("File ") and not line.endswith("in require")]
        return f"{lines[0][:MAX_SUMMARY_CHARS]}; {places[-1] if places else ''}"
    errors = re.findall(r"ERROR: libFuzzer: (.*)", log)
    places = [line.strip() for line in log.splitlines() if "moodring" in line and line.strip().startswith("File ")]
    return "; ".join([errors[-1] if errors else f"exit code {code}", *places[:1]])[:MAX_SUMMARY_CHARS]
