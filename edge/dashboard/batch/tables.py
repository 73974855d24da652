"""The tables and the record in the output folder of a batch, read row by row from Parquet or CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodring.analysis import tables
from moodring.analysis.batch import record
from moodring.analysis.batch.jobs import PATH_COLUMN
from moodring.analysis.batch.output import FAILURES, FILES, MANIFEST_PREFIX, ROWS
from moodring.analysis.row import Value
from moodring.errors import DataError, UsageError

FIRST_OWN_COLUMN = "kind"  # of the table of files: it follows those of the manifest
SHARE_PREFIX = "share_"
AGAIN = "start the same `moodring batch` command again"


@dataclass(frozen=True, slots=True)
class BatchTables:
    """The output folder of a complete batch. `suffix` is that of the tables to read."""

    folder: Path
    record: Mapping[str, Any]
    suffix: str

    @property
    def per(self) -> str:
        """What a row of the second table is: event, second, or file if there is no such table."""
        return str(self.record["settings"]["per"])

    @property
    def row_s(self) -> float:
        """The time in s that a row of the second table covers."""
        return 1.0 if self.per == "second" else 1.0 / float(self.record["settings"]["fusion"]["rate_hz"])

    def path(self, name: str) -> Path:
        """Return the file of a table."""
        return self.folder / f"{name}{self.suffix}"

    def columns(self) -> tuple[list[str], list[str]]:
        """Return the columns of the manifest and the labels. Raises DataError for another table than that of files."""
        path = self.path(FILES)
        names = csv_names(path) if self.suffix == ".csv" else tables.parquet_names(path)
        tables.check_columns(path, [PATH_COLUMN, FIRST_OWN_COLUMN], names)
        first = names.index(FIRST_OWN_COLUMN)
        labels = [name.removeprefix(SHARE_PREFIX) for name in names[first:] if name.startswith(SHARE_PREFIX)]
        return [name for name in names[:first] if name != PATH_COLUMN], labels

    def files(self, names: Sequence[str]) -> Iterator[tuple[Value, ...]]:
        """Yield these columns of the table of files."""
        return self._read(FILES, names)

    def rows(self, names: Sequence[str]) -> Iterator[tuple[Value, ...]]:
        """Yield these columns of the second table."""
        return self._read(ROWS[self.per], names)

    def failures(self) -> list[tuple[str, str]]:
        """Return the path and the reason of each file that failed."""
        found = read_csv(self.folder / f"{FAILURES}.csv", (PATH_COLUMN, "reason"))
        return [(str(path), str(reason)) for path, reason in found]

    def _read(self, name: str, names: Sequence[str]) -> Iterator[tuple[Value, ...]]:
        return (read_csv if self.suffix == ".csv" else tables.read_parquet)(self.path(name), names)


def open_tables(folder: Path) -> BatchTables:
    """Return the tables of a batch. Raises UsageError for another folder, DataError for an unfinished batch, and OSError."""
    if not (folder / record.FILE).exists():
        raise UsageError(
            f"{folder} has no {record.FILE}: it is not the output of `moodring batch`; name its DIR, or an event file"
        )
    found = record.read(folder)
    if found.get("state") != "complete":
        raise DataError(f"the batch in {folder} is not complete; {AGAIN}, and then this one")
    opened = BatchTables(folder, found, ".parquet")
    try:
        needed = [FILES] + ([] if opened.per == "file" else [ROWS[opened.per]])
        _ = opened.row_s, found["result"]["files"], found["result"]["failed"], found["result"]["rows"]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{folder / record.FILE} is damaged (value of {error}); {AGAIN}") from error
    as_csv = all((folder / f"{name}.csv").exists() for name in needed)
    as_parquet = all((folder / f"{name}.parquet").exists() for name in needed)
    if as_parquet and tables.has_parquet():
        return opened
    if as_csv:
        return BatchTables(folder, found, ".csv")
    if as_parquet:
        raise UsageError("reading Parquet tables needs pyarrow: pip install 'moodring[batch]'; or write CSV with `batch --csv`")
    raise DataError(f"{folder} has not all of its tables ({', '.join(f'{name}.parquet' for name in needed)}); {AGAIN}")


def group_column(column: str, manifest: Sequence[str]) -> str:
    """Return the column of the table of files for a column of the manifest. Raises UsageError if there is none."""
    for name in (column, MANIFEST_PREFIX + column):
        if name in manifest:
            return name
    if not manifest:
        raise UsageError("--group needs a batch of a manifest with more columns than the path; this one has none")
    raise UsageError(f"the manifest of this batch has no column {column}; name one of {', '.join(manifest)} with --group")


def csv_names(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file. Raises DataError, and OSError."""
    with path.open(encoding="utf-8", newline="") as file:
        return next(_lines(path, file), [])


def read_csv(path: Path, names: Sequence[str]) -> Iterator[tuple[Value, ...]]:
    """Yield these columns of a CSV file, row by row, as text; an empty cell is None. Raises DataError, and OSError."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = _lines(path, file)
        header = next(lines, [])
        tables.check_columns(path, names, header)
        places = [header.index(name) for name in names]
        for line in lines:
            if len(line) != len(header):
                raise DataError(f"{path} is damaged (a row has {len(line)} cells, not {len(header)}); {AGAIN}")
            yield tuple(line[place] or None for place in places)


def _lines(path: Path, file: Any) -> Iterator[list[str]]:
    try:
        yield from csv.reader(file, strict=True)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged ({error}); {AGAIN}") from error


def number(value: Value) -> float:
    """Return a cell as a finite number; 0 if it is empty. Raises DataError for text."""
    try:
        found = float(value or 0.0)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise DataError(f"a table has {value!r} in place of a number; {AGAIN}")
    return found
