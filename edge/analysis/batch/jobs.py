"""The files of a batch: those of a folder, a pattern, a list of paths or a manifest.

A file has a name, which is its path in the tables, and a source, which is opened. Names are relative to the folder that the
input names, so the tables do not depend on where that folder is.
"""

from __future__ import annotations

import csv
import glob
import io
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moodring.address import file_mode, is_url
from moodring.analysis.inputs import FOLDER_SUFFIXES, expand
from moodring.errors import UsageError, printable
from moodring.redaction import without_credentials

PATH_COLUMN = "path"
MAX_LINE = 8192  # characters of a line in a list of paths


@dataclass(frozen=True, slots=True)
class Job:
    """One file of a batch: its position in the input from 0, its name, its source, and its cells of the manifest."""

    number: int
    name: str
    source: str
    cells: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The name as the tables have it: without a password, and bytes that are not UTF-8 are escaped."""
        return without_credentials(table_text(self.name)) if is_url(self.name) else table_text(self.name)


@dataclass(frozen=True, slots=True)
class Jobs:
    """The files of an input in its order, the names of the manifest's other columns, and what was noticed meanwhile."""

    files: tuple[Job, ...]
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_jobs(named: str) -> Jobs:
    """Return the files of a folder, a pattern, a list of paths (text) or a manifest (.csv). Raises UsageError.

    A folder or pattern stands for the files that `moodring analyze` would read. A list has one path a line, or is separated by
    NUL characters; paths are relative to the list. Files that are absent fail later, one by one.
    """
    if is_url(named):
        raise UsageError(f"{printable(named)} is one source; write the URLs into a text file, one a line")
    mode = file_mode(named)
    if stat.S_ISDIR(mode):
        return _unique([(os.path.relpath(path, named), path, ()) for path in expand(named)])
    suffix = Path(named).suffix.lower()
    if not mode and glob.has_magic(named):
        root = _fixed_folder(named)
        return _unique([(os.path.relpath(path, root), path, ()) for path in expand(named)])
    if suffix in FOLDER_SUFFIXES:
        raise UsageError(f"{printable(named)} is one file; use moodring analyze, or name its folder")
    try:
        data = Path(named).read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(named)}: {getattr(error, 'strerror', None) or error}; name a folder or file") from error
    found = _manifest(named, data) if suffix == ".csv" else _list(named, data)
    if not found.files:
        raise UsageError(f"{printable(named)} names no file; write one path a line")
    return found


def shard(jobs: Sequence[Job], part: tuple[int, int]) -> list[Job]:
    """Return shard i of n, from 1: every n-th file."""
    i, n = part
    return list(jobs[i - 1 :: n])


def _fixed_folder(pattern: str) -> str:
    """Return the folder before the first wildcard of a pattern."""
    fixed = []
    for piece in Path(pattern).parts:
        if glob.has_magic(piece):
            break
        fixed.append(piece)
    return str(Path(*fixed))


def _unique(found: Iterable[tuple[str, str, tuple[str, ...]]]) -> Jobs:
    """Return files, each source once. Raises UsageError for different names that are the same text in the tables."""
    jobs: dict[str, Job] = {}
    texts: set[str] = set()
    repeated = 0
    for name, opened, cells in found:
        source = opened if is_url(opened) else os.path.abspath(opened)  # noqa: PTH100  symbolic links stay
        if source in jobs:
            repeated += 1
            continue
        job = Job(len(jobs), name, source, cells)
        if job.path in texts:
            raise UsageError(f"two files have the path {printable(job.path)} in the tables; rename one")
        texts.add(job.path)
        jobs[source] = job
    notes = (f"{repeated} repeated {'path is' if repeated == 1 else 'paths are'} read once",) if repeated else ()
    return Jobs(tuple(jobs.values()), notes=notes)


def _list(named: str, data: bytes) -> Jobs:
    separator = b"\0" if b"\0" in data else b"\n"
    lines = [os.fsdecode(line.removesuffix(b"\r")) for line in data.removeprefix(b"\xef\xbb\xbf").split(separator)]
    if max(map(len, lines)) > MAX_LINE:
        raise UsageError(f"{printable(named)} is no list of paths: a line is longer than {MAX_LINE} characters")
    return _unique((name, _beside(named, name), ()) for name in lines if name.strip())


def _beside(named: str, name: str) -> str:
    return name if is_url(name) else os.path.join(os.path.dirname(named), name)  # noqa: PTH118, PTH120  keeps "//" of URLs


def _manifest(named: str, data: bytes) -> Jobs:
    """Return the files of a CSV file with a column `path`, with the cells of its other columns."""
    text = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))
    head = text.split("\n", 1)[0]
    delimiter = next((character for character in ",;\t" if character in head), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    where = printable(named)
    lines: dict[str, int] = {}
    found = []
    try:
        header = [name.strip() for name in next(reader, [])]
        place, kept = _header(where, header)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise UsageError(f"{where} line {reader.line_num} has {len(row)} cells, its header {len(header)}; correct it")
            name = row[place]
            source = _beside(named, name)
            key = os.path.abspath(source)  # noqa: PTH100
            if not name.strip():
                raise UsageError(f"{where} line {reader.line_num}: the path is empty")
            if key in lines:
                raise UsageError(
                    f"{where} line {reader.line_num}: {printable(name)} is also on line {lines[key]}; name each file once"
                )
            lines[key] = reader.line_num
            found.append((name, source, tuple(table_text(row[index]) for index in kept)))
    except csv.Error as error:
        raise UsageError(f"{where} line {reader.line_num}: {error}; save it as CSV again") from error
    return Jobs(_unique(found).files, tuple(table_text(header[index]) for index in kept))


def _header(where: str, header: Sequence[str]) -> tuple[int, list[int]]:
    """Return the index of the column `path` and those of the other columns with a name."""
    if header.count(PATH_COLUMN) != 1:
        names = ", ".join(map(printable, header)) or "none"
        raise UsageError(f"{where} needs one column `{PATH_COLUMN}` in its first line; it has: {names}")
    named = [index for index, name in enumerate(header) if name and name != PATH_COLUMN]
    twice = {header[index] for index in named if header.count(header[index]) > 1}
    if twice:
        raise UsageError(f"{where} has two columns `{printable(min(twice))}`; rename one")
    return header.index(PATH_COLUMN), named


def table_text(name: str) -> str:
    """Return a name as the tables have it: bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
