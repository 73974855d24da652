"""The figures of a batch: of each file, of all, and a multiple for each file or group. Rows are read once and not kept."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moodring.analysis.batch.jobs import PATH_COLUMN
from moodring.analysis.row import Value
from moodring.dashboard.batch.strips import Columns, Run, Strip, file_strip, merge
from moodring.dashboard.batch.tables import AGAIN, FIRST_OWN_COLUMN, SHARE_PREFIX, BatchTables, group_column, number
from moodring.errors import DataError

MAX_MULTIPLES = 1000
RECTANGLES = (60, 300)  # of the strip of one file
COLUMNS = (20, 200)  # of the strip of one group; each has a rectangle for each label
ALL_RECTANGLES = 90_000  # of all strips: they keep 500 files below 3 MB
PLAIN_COLUMNS = (PATH_COLUMN, FIRST_OWN_COLUMN, "duration_s", "rows", "label", "labelled", "faces", "missing")


@dataclass(frozen=True, slots=True)
class FileFigures:
    """One row of the table of files. `shares` are by label, of the rows with a label; `group` is its cell in the manifest."""

    path: str
    kind: str
    duration_s: float
    rows: int
    label: str | None
    labelled: float
    faces: int
    missing: str
    shares: dict[str, float]
    group: str = ""

    @property
    def labelled_rows(self) -> float:
        """The number of rows with a label."""
        return self.rows * self.labelled

    @property
    def is_image(self) -> bool:
        """Whether the rows are faces of an image, which has no time."""
        return self.kind == "image"


@dataclass(slots=True)
class Multiple:
    """A part of the report: one file, or the files of a group. `strip` is None where there are no rows over time."""

    name: str
    files: list[FileFigures] = field(default_factory=list)
    strip: Strip | None = None


@dataclass(frozen=True, slots=True)
class BatchFigures:
    """All that the report of a batch shows. `states` counts the rows by state, where the batch has a row for each event."""

    record: Mapping[str, Any]
    labels: Sequence[str]
    files: Sequence[FileFigures]
    failures: Sequence[tuple[str, str]]
    group: str | None
    multiples: Sequence[Multiple]  # at most MAX_MULTIPLES
    omitted: int  # multiples beyond these
    states: Counter[str]


def shares(files: Iterable[FileFigures], labels: Sequence[str]) -> dict[str, float]:
    """Return the shares of labels of all rows with a label in these files, longest first; empty if there are none."""
    sums = dict.fromkeys(labels, 0.0)
    for file in files:
        for label in labels:
            sums[label] += file.shares[label] * file.labelled_rows
    total = sum(sums.values())
    return {label: sums[label] / total for label in sorted(labels, key=lambda label: -sums[label])} if total else {}


def mean_shares(files: Iterable[FileFigures], labels: Sequence[str]) -> dict[str, float]:
    """Return the mean share of each label over the files with a label, each with the same weight; empty if there are none."""
    found = [file for file in files if file.label is not None]
    return {label: sum(file.shares[label] for file in found) / len(found) for label in labels} if found else {}


def read_figures(tables: BatchTables, group: str | None) -> BatchFigures:
    """Read all tables. Raises DataError if they do not belong together, UsageError for an unknown group, and OSError."""
    manifest, labels = tables.columns()
    column = None if group is None else group_column(group, manifest)
    files = list(_files(tables, labels, column))
    failures = tables.failures()
    _check(tables, "files", len(files))
    _check(tables, "failed", len(failures))
    multiples = _multiples(files, column)
    shown = multiples[:MAX_MULTIPLES]
    states: Counter[str] = Counter()
    if tables.per != "file":
        _add_strips(tables, files, shown, labels, states, grouped=column is not None)
    omitted = len(multiples) - len(shown)
    return BatchFigures(tables.record, labels, files, failures, column, shown, omitted, states)


def _check(tables: BatchTables, name: str, found: int) -> None:
    expected = tables.record["result"][name]
    if found != expected:
        raise DataError(f"{tables.folder} has {found} {name} in its tables, and {expected} in run.json; {AGAIN}")


def _files(tables: BatchTables, labels: Sequence[str], column: str | None) -> Iterator[FileFigures]:
    names = [*PLAIN_COLUMNS, *(SHARE_PREFIX + label for label in labels), *([column] if column else [])]
    for path, kind, duration_s, rows, label, labelled, faces, missing, *cells in tables.files(names):
        yield FileFigures(
            path=str(path),
            kind=str(kind),
            duration_s=number(duration_s),
            rows=int(number(rows)),
            label=None if label is None else str(label),
            labelled=number(labelled),
            faces=int(number(faces)),
            missing=str(missing or ""),
            shares=dict(zip(labels, map(number, cells), strict=False)),
            group=str(cells[-1] or "") if column else "",
        )


def _multiples(files: Sequence[FileFigures], column: str | None) -> list[Multiple]:
    if column is None:
        return [Multiple(file.path, [file]) for file in files]
    groups: dict[str, Multiple] = {}
    for file in files:
        groups.setdefault(file.group, Multiple(f"{column}: {file.group or '(empty)'}")).files.append(file)
    return [groups[name] for name in sorted(groups, key=natural)]


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by their value: s2 before s10."""
    return [(len(part.lstrip("0")) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def _add_strips(
    tables: BatchTables,
    files: Sequence[FileFigures],
    multiples: Sequence[Multiple],
    labels: Sequence[str],
    states: Counter[str],
    *,
    grouped: bool,
) -> None:
    """Read the second table: add the strips to the multiples, and count the states."""
    of_file = {file.path: multiple for multiple in multiples for file in multiple.files}
    number_of_columns = _limit(COLUMNS, len(multiples) * len(labels))
    columns = {
        id(multiple): Columns(_longest_s(multiple.files) or tables.row_s, number_of_columns)
        for multiple in multiples
        if grouped
    }
    limit = _limit(RECTANGLES, len(multiples))
    for file, runs in _runs(tables, files, states):
        multiple = of_file.get(file.path)
        if multiple is None or file.is_image:
            continue
        if grouped:
            columns[id(multiple)].add(runs)
        else:
            multiple.strip = file_strip(runs, file.duration_s, limit)
    for multiple in multiples:
        if grouped and any(not file.is_image for file in multiple.files):
            multiple.strip = columns[id(multiple)].strip(labels)


def _limit(bounds: tuple[int, int], strips: int) -> int:
    """Return how many rectangles each strip may have."""
    least, most = bounds
    return max(least, min(most, ALL_RECTANGLES // max(1, strips)))


def _longest_s(files: Iterable[FileFigures]) -> float:
    return max((file.duration_s for file in files if not file.is_image), default=0.0)


def _runs(tables: BatchTables, files: Sequence[FileFigures], states: Counter[str]) -> Iterator[tuple[FileFigures, list[Run]]]:
    """Yield each file with rows, and its runs of equal labels. Only the runs of one file are in memory."""
    by_path = {file.path: file for file in files}
    has_states = tables.per == "event"
    names = [PATH_COLUMN, "time_s", "label", *(["state"] if has_states else [])]
    counted = 0

    def rows(records: Iterable[tuple[Value, ...]]) -> Iterator[tuple[float, str | None]]:
        nonlocal counted
        for record in records:
            counted += 1
            if has_states:
                states[str(record[3])] += 1
            yield number(record[1]), None if record[2] is None else str(record[2])

    for path, records in itertools.groupby(tables.rows(names), key=lambda record: record[0]):
        file = by_path.get(str(path))
        if file is None:
            raise DataError(f"{tables.folder} has rows of {path}, which is not in its table of files; {AGAIN}")
        yield file, merge(rows(records), tables.row_s, from_start=tables.per == "second")
    _check(tables, "rows", counted)
