"""Tables of comma-separated text in UTF-8 with a header; the rows are numbered from 1 after it."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from moodring.errors import DataError


def read_table(path: Path) -> tuple[list[str], dict[int, list[str]]]:
    """Read a table; return the names of its columns in lower case, and the cells by row number. Empty rows are left out.

    Raises DataError if it cannot be read, names a column twice or has no rows.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [cell.strip().lower() for cell in next(reader, [])]
            rows = {row: cells for row, cells in enumerate(reader, 1) if any(cell.strip() for cell in cells)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as comma-separated text in UTF-8 ({error})") from error
    named = [name for name in header if name]
    if len(set(named)) != len(named):
        raise DataError(f"{path}: the first line names a column twice: {','.join(header)[:200]}")
    if not rows:
        raise DataError(f"{path}: has no rows below its header; it may be a partial download")
    return header, rows


def parse_number(text: str) -> float | None:
    """Return a finite number of at least 0; None for another text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None
