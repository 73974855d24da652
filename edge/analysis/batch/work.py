"""The work on one file of a batch: from its settings to the bytes of its part, in any process on any machine."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from moodring.address import check_path, is_pipe, is_url
from moodring.analysis.batch.jobs import Job
from moodring.analysis.batch.settings import Settings, bundle_hash
from moodring.analysis.models import Models, load_models
from moodring.analysis.opencv import OneThread
from moodring.analysis.reading import Reading, open_pipeline
from moodring.analysis.row import Row, Value, columns
from moodring.analysis.summary import Summary, Tally, summary_columns
from moodring.capture.media.readers import MediaCounters
from moodring.errors import BundleError, MediaError, UsageError, printable
from moodring.pipeline import Pipeline
from moodring.types import Counters

FORMAT = "moodring.part.1"
COMPRESSION = 1  # of gzip: fast, and a third of the size
HASH_BLOCK = 1 << 20  # bytes
COUNTS = tuple(dict.fromkeys([
    *MediaCounters().captured, *(name for name in Counters.__dataclass_fields__ if name != "events"), *MediaCounters().dropped,
]))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """The result of one file: its row in the table of files, or the reason why there is none."""

    key: str  # of the settings
    name: str
    size: int
    mtime_ns: int
    sha256: str | None
    row: dict[str, Value] | None
    failure: str | None = None

    def to_json(self) -> str:
        """Return the part as a line of JSON."""
        return json.dumps({"format": FORMAT, **{name: getattr(self, name) for name in self.__dataclass_fields__}})

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Return the part of a line of JSON. Raises ValueError for another format."""
        document = json.loads(line)
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ValueError("this is no part of a batch")
        if set(document) != set(cls.__dataclass_fields__):
            raise ValueError("a part has other fields")
        return cls(**document)


def file_columns(settings: Settings) -> dict[str, type]:
    """Return the columns of the table of files after the path and those of the manifest, with the type of their values."""
    types = summary_columns(settings.labels)
    del types["file"]
    missing = types.pop("missing")
    return {**types, **dict.fromkeys(COUNTS, int), "missing": missing, "sha256": str}


def row_columns(settings: Settings) -> dict[str, type]:
    """Return the columns of the second table after the path; none for a batch per file."""
    if settings.per == "file":
        return {}
    if settings.per == "event":
        return columns(settings.labels)
    kept = {name: kind for name, kind in summary_columns(settings.labels).items() if name not in ("file", "kind", "missing")}
    del kept["duration_s"]
    return {"time_s": float, **kept}


def analyze_part(job: Job, settings: Settings) -> tuple[Part, bytes]:
    """Analyse one file; return its part, and the part with all its rows as bytes.

    A file that cannot be analysed gives a part with the reason. The result depends on the file and the settings alone. The
    networks are loaded at the first call and used again. Raises BundleError or BackendError if they cannot be.
    """
    return open_analyst(settings).part(job)


@functools.lru_cache(maxsize=1)
def open_analyst(settings: Settings) -> Analyst:
    """Return the networks for these settings, loaded once in a process. Raises BundleError if the bundle is another one."""
    models = load_models(settings.config)
    found = bundle_hash(models.bundle)
    if found != settings.bundle_sha256:
        raise BundleError(
            f"the bundle {models.bundle.path} is {models.bundle.name} ({found[:12]}), but this batch uses "
            f"{settings.bundle_name} ({settings.bundle_sha256[:12]}); install the same bundle on each machine"
        )
    return Analyst(settings, models, open_pipeline(models.config, models))


@dataclass(frozen=True, slots=True)
class Analyst:
    """The networks and the pipeline of one process. The pipeline is reset before each file."""

    settings: Settings
    models: Models
    pipeline: Pipeline

    def part(self, job: Job) -> tuple[Part, bytes]:
        """Return the part of one file, and its bytes: a line about the file, then a line for each row, compressed."""
        rows = io.BytesIO()
        state = file_state(job.source)
        row, sha256, failure = None, None, None
        try:
            check_readable(job.source)
            sha256 = None if is_url(job.source) else file_hash(job.source)
            with gzip.GzipFile(fileobj=rows, mode="wb", compresslevel=COMPRESSION, mtime=0) as file:
                summary, counts = self._read(job, file)
            row = self._file_row(summary, counts, sha256)
        except (MediaError, UsageError) as error:
            rows, failure = io.BytesIO(), relative(str(error), job)
        except OSError as error:
            rows, failure = io.BytesIO(), f"{printable(job.name)}: {error.strerror or error}; check that it can be read"
        part = Part(self.settings.key(), job.path, *state, sha256, row, failure)
        return part, _head(part) + rows.getvalue()

    def _read(self, job: Job, file: gzip.GzipFile) -> tuple[Summary, Mapping[str, int]]:
        tally = Tally(self.settings.labels)
        with OneThread(), Reading(
            self.settings.options(job.source), self.models.config, self.models, pipeline=self.pipeline
        ) as reading:  # fmt: skip
            for record in self._records(tallied(reading.rows(), tally)):
                file.write(f"{json.dumps(record)}\n".encode())
            missing = [relative(text, job) for text in reading.missing]
            summary = tally.summary(source=job.path, kind=reading.kind, duration_s=reading.duration_s, missing=missing)
            return summary, reading.counts

    def _records(self, rows: Iterable[Row]) -> Iterator[list[Value]]:
        """Yield the values of the second table's rows, in the order of its columns."""
        labels, names = self.settings.labels, list(row_columns(self.settings))
        if self.settings.per == "second":
            yield from ([second[name] for name in names] for second in seconds(rows, labels))
            return
        for row in rows:
            if self.settings.per == "event":
                yield list(row.to_dict(labels).values())

    def _file_row(self, summary: Summary, counts: Mapping[str, int], sha256: str | None) -> dict[str, Value]:
        found = {**summary.to_dict(), **{name: counts.get(name, 0) for name in COUNTS}, "sha256": sha256}
        return {name: found.get(name) for name in file_columns(self.settings)}


def failed_part(job: Job, settings: Settings, reason: str) -> tuple[Part, bytes]:
    """Return the part of a file that cannot be analysed, and its bytes."""
    part = Part(settings.key(), job.path, *file_state(job.source), None, None, reason)
    return part, _head(part)


def _head(part: Part) -> bytes:
    return gzip.compress(f"{part.to_json()}\n".encode(), COMPRESSION, mtime=0)


def tallied(rows: Iterable[Row], tally: Tally) -> Iterator[Row]:
    """Yield the rows, and count each."""
    for row in rows:
        tally.add(row)
        yield row


def seconds(rows: Iterable[Row], labels: tuple[str, ...]) -> Iterator[dict[str, Value]]:
    """Yield a record for each second that has rows: its start, shares and means, as of a file.

    A row is published at the end of what it describes: that at 1.0 belongs to the second from 0.
    """
    start, tally = 0, None
    for row in rows:
        second = max(0, math.ceil(row.time_s) - 1)
        if tally is not None and second != start:
            yield _second(start, tally)
            tally = None
        tally = tally or Tally(labels)
        tally.add(row)
        start = second
    if tally is not None:
        yield _second(start, tally)


def _second(start: int, tally: Tally) -> dict[str, Value]:
    summary = tally.summary(source="", kind="video", duration_s=1.0, missing=()).to_dict()
    return {"time_s": float(start), **summary}


def check_readable(source: str) -> None:
    """Raise UsageError or OSError for what is neither a URL nor a regular file: a pipe would wait for a writer."""
    if is_url(source):
        return
    if is_pipe(source):
        raise UsageError(f"{printable(source)} is a pipe; write it into a file first")
    if "\0" not in source:
        Path(source).stat()  # its error says more than that there is no such file
    check_path(source)


def file_state(source: str) -> tuple[int, int]:
    """Return the size of a file and the time of its last change in ns; 0 and 0 for a URL or an absent file."""
    try:
        state = Path(source).stat()
    except (OSError, ValueError):
        return 0, 0
    return state.st_size, state.st_mtime_ns


def file_hash(source: str) -> str:
    """Return the SHA-256 of a file. Raises OSError."""
    with Path(source).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def relative(text: str, job: Job) -> str:
    """Return a message about a file with its name instead of its source, which can differ between machines."""
    return text.replace(printable(job.source), printable(job.name))
