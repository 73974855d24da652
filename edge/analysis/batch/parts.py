"""The folder of parts: one file for each input that is done. It makes a batch resumable.

A part is written under a temporary name, synchronised with the disk, and renamed: it is complete or absent, whenever the
process or the machine ends. It has a line of JSON about the file, then one for each row of the second table, in two gzip
members.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moodring.address import is_url
from moodring.analysis.batch.jobs import Job
from moodring.analysis.batch.work import Part, file_hash, file_state
from moodring.analysis.row import Value
from moodring.errors import DataError

SUFFIX, TEMPORARY = ".jsonl.gz", ".tmp"
DAMAGED = (EOFError, ValueError, TypeError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one batch in `folder`, made for settings with this key."""

    folder: Path
    key: str

    def path(self, job: Job) -> Path:
        """Return the file of a job's part."""
        return self.folder / f"{_digest(job)}{SUFFIX}"

    def write(self, job: Job, data: bytes) -> None:
        """Write the part of a job, replacing an older one. Raises OSError, and leaves nothing half-written."""
        handle, name = tempfile.mkstemp(prefix=f".{_digest(job)}.", suffix=TEMPORARY, dir=self.folder)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path(job))
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def head(self, job: Job) -> Part | None:
        """Return the part of a job without its rows; None if there is none, or one of other settings or a damaged one."""
        try:
            with gzip.open(self.path(job), "rb") as file:
                part = Part.from_json(file.readline())
        except (FileNotFoundError, *DAMAGED):
            return None
        return part if part.key == self.key and part.name == job.path else None

    def rows(self, job: Job) -> Iterator[list[Value]]:
        """Yield the rows of a job's part. Raises DataError for a damaged part."""
        try:
            with gzip.open(self.path(job), "rb") as file:
                file.readline()
                for line in file:
                    yield json.loads(line)
        except DAMAGED as error:
            raise DataError(f"{self.path(job)} is damaged ({error}); remove it and start the same command again") from error

    def is_done(self, job: Job) -> bool:
        """Return whether a job has a part with a result, made of the file as it is now."""
        part = self.head(job)
        if part is None or part.failure is not None:
            return False
        if is_url(job.source):
            return True
        size, mtime_ns = file_state(job.source)
        if size != part.size:
            return False
        try:
            return mtime_ns == part.mtime_ns or file_hash(job.source) == part.sha256
        except OSError:
            return False

    def clear(self, jobs: Sequence[Job]) -> None:
        """Remove what an earlier process left of jobs that are not done."""
        digests = {_digest(job) for job in jobs}
        for job in jobs:
            self.path(job).unlink(missing_ok=True)
        for path in self.folder.glob(f".*{TEMPORARY}"):
            if path.name.split(".")[1] in digests:
                path.unlink(missing_ok=True)

    def unknown(self, jobs: Collection[Job]) -> int:
        """Return the number of parts that belong to none of all jobs."""
        known = {f"{_digest(job)}{SUFFIX}" for job in jobs}
        return sum(path.name not in known for path in self.folder.glob(f"*{SUFFIX}"))


def _digest(job: Job) -> str:
    return hashlib.sha256(job.path.encode()).hexdigest()[:32]
