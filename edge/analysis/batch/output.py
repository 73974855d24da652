"""The tables of a batch: its parts, in the order of the input, as Parquet and CSV. Each table is complete or absent.

The tables contain nothing of the machine or the time of the work: equal files and settings give equal bytes.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from moodring.analysis import tables
from moodring.analysis.batch.jobs import PATH_COLUMN, Job, Jobs
from moodring.analysis.batch.parts import Parts
from moodring.analysis.batch.settings import Settings
from moodring.analysis.batch.work import Part, file_columns, row_columns
from moodring.analysis.row import Value
from moodring.errors import DataError

ROW_GROUP = 4096  # rows that are in memory
FILES, FAILURES = "files", "failures"
ROWS = {"event": "events", "second": "seconds"}  # the second table, by `per`
MANIFEST_PREFIX = "manifest_"  # of columns of the manifest that have the name of another column


@dataclass(frozen=True, slots=True)
class Totals:
    """What the tables contain. `sha256` is a hash of the paths and hashes of all files that were analysed."""

    files: int
    failed: int
    rows: int
    duration_s: float
    sha256: str


def write_tables(out: Path, jobs: Jobs, parts: Parts, settings: Settings, *, as_csv: bool) -> Totals:
    """Write all tables into a folder, replacing those of an earlier run. Raises DataError for a damaged part, and OSError."""
    types = file_types(jobs.columns, settings)
    cells = list(types)[1 : 1 + len(jobs.columns)]
    row_types = {PATH_COLUMN: str, **row_columns(settings)}
    digest, counts = hashlib.sha256(), {FILES: 0, FAILURES: 0, "rows": 0}
    duration_s = 0.0
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(Table(out, FILES, types, as_csv=as_csv))
        rows = None
        if settings.per != "file":
            rows = stack.enter_context(Table(out, ROWS[settings.per], row_types, as_csv=as_csv))
        failures = stack.enter_context(CsvTable(out / f"{FAILURES}.csv", {PATH_COLUMN: str, "reason": str}))
        for job in jobs.files:
            part = _head(parts, job)
            if part.row is None:
                failures.add({PATH_COLUMN: job.path, "reason": part.failure})
                counts[FAILURES] += 1
                continue
            files.add({PATH_COLUMN: job.path, **dict(zip(cells, job.cells, strict=True)), **part.row})
            counts[FILES] += 1
            duration_s += float(part.row["duration_s"] or 0.0)
            digest.update(f"{job.path}\0{part.sha256}\n".encode())
            if rows is not None:
                for values in parts.rows(job):
                    rows.add(dict(zip(row_types, (job.path, *values), strict=True)))
                    counts["rows"] += 1
    return Totals(counts[FILES], counts[FAILURES], counts["rows"], round(duration_s, 3), digest.hexdigest())


def file_types(manifest: Sequence[str], settings: Settings) -> dict[str, type]:
    """Return the columns of the table of files, with the type of their values.

    A column of the manifest with the name of another one gets the prefix `manifest_`, as often as it needs.
    """
    own = file_columns(settings)
    types: dict[str, type] = {PATH_COLUMN: str}
    for name in manifest:
        column = name
        while column in own or column in types or (column != name and column in manifest):
            column = MANIFEST_PREFIX + column
        types[column] = str
    return types | own


def _head(parts: Parts, job: Job) -> Part:
    part = parts.head(job)
    if part is None:
        raise DataError(f"{parts.path(job)} was removed or damaged; start the same command again")
    return part


class CsvTable:
    """A CSV file of records with a header. Numbers are rounded as in events; a missing value is empty."""

    def __init__(self, path: Path, types: Mapping[str, type]) -> None:
        self._names = list(types)
        self._stack = contextlib.ExitStack()
        self._path = path

    def __enter__(self) -> Self:
        file = self._stack.enter_context(tables.private_file(self._path))
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="", write_through=True)
        self._stack.callback(_release, text)
        self._writer = csv.DictWriter(text, self._names, lineterminator="\n")
        self._writer.writeheader()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def add(self, record: Mapping[str, Value]) -> None:
        """Write one record."""
        self._writer.writerow(tables.rounded(record))


def _release(text: io.TextIOWrapper) -> None:
    """Flush the text, and leave its file open."""
    text.flush()
    text.detach()


class Table:
    """A Parquet file of records with full precision, and on demand a CSV file beside it."""

    def __init__(self, out: Path, name: str, types: Mapping[str, type], *, as_csv: bool) -> None:
        self._out, self._name, self._types, self._as_csv = out, name, types, as_csv
        self._group: list[Mapping[str, Value]] = []
        self._csv: CsvTable | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(tables.private_file(self._out / f"{self._name}.parquet"))
            self._writer = stack.enter_context(tables.open_parquet(self._types, file))
            stack.push(self._end)
            if self._as_csv:
                self._csv = stack.enter_context(CsvTable(self._out / f"{self._name}.csv", self._types))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def add(self, record: Mapping[str, Value]) -> None:
        """Write one record."""
        if self._csv is not None:
            self._csv.add(record)
        self._group.append(record)
        if len(self._group) == ROW_GROUP:
            self._write()

    def _write(self) -> None:
        self._writer.write_table(tables.arrow_table(self._group, self._types))
        self._group.clear()

    def _end(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._group:
            self._write()


def leftovers(out: Path) -> Iterator[Path]:
    """Yield the unfinished tables that a killed process left."""
    names = [f"{name}.{suffix}" for name in (FILES, FAILURES, *ROWS.values()) for suffix in ("parquet", "csv")]
    for name in names:
        yield from out.glob(f".{name}.*.part")


def table_names(per: str, *, as_csv: bool) -> Iterable[str]:
    """Return the names of the files that `write_tables` writes."""
    named = [FILES, *([ROWS[per]] if per in ROWS else [])]
    return [f"{name}.{suffix}" for name in named for suffix in (("parquet", "csv") if as_csv else ("parquet",))] + [
        f"{FAILURES}.csv"
    ]
