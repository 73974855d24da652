"""Tables of rows as CSV, pandas and Parquet. pandas and pyarrow (extra `batch`) are imported when they are used."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from moodring.analysis.row import Value, columns
from moodring.errors import DataError, UsageError
from moodring.publish.cloudevents import DECIMALS

if TYPE_CHECKING:
    import pandas as pd

PANDAS_TYPES = {float: "float64", int: "Int64", str: "object", bool: "bool"}  # Int64 has missing values
ARROW_TYPES = {float: "float64", int: "int64", str: "string", bool: "bool_"}


def columns_of_file(labels: Sequence[str]) -> dict[str, type]:
    """Return the columns of a table of rows of several files, with the type of their values."""
    return {"file": str, **columns(labels)}


def rounded(record: Mapping[str, Value]) -> dict[str, Value]:
    """Return a record with its numbers rounded as in events."""
    return {name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in record.items()}


def to_pandas(records: Sequence[Mapping[str, Value]], types: Mapping[str, type]) -> pd.DataFrame:
    """Return records as a DataFrame with these columns, also where there are none."""
    pandas = _extra("pandas")
    frame: pd.DataFrame = pandas.DataFrame(records, columns=list(types))
    return frame.astype({name: PANDAS_TYPES[kind] for name, kind in types.items()})


def arrow_schema(types: Mapping[str, type]) -> Any:
    """Return the pyarrow schema of a table with these columns. It does not depend on the values."""
    pyarrow = _extra("pyarrow")
    return pyarrow.schema([(name, getattr(pyarrow, ARROW_TYPES[kind])()) for name, kind in types.items()])


def arrow_table(records: Sequence[Mapping[str, Value]], types: Mapping[str, type]) -> Any:
    """Return records as a pyarrow table with these columns."""
    return _extra("pyarrow").Table.from_pylist(list(records), schema=arrow_schema(types))


def check_parquet() -> None:
    """Raise UsageError if Parquet files cannot be written here."""
    _extra("pyarrow.parquet")


def open_parquet(types: Mapping[str, type], file: IO[bytes]) -> Any:
    """Return a pyarrow ParquetWriter of tables with these columns."""
    return _extra("pyarrow.parquet").ParquetWriter(file, arrow_schema(types))


def has_parquet() -> bool:
    """Return whether Parquet files can be read and written here."""
    return importlib.util.find_spec("pyarrow") is not None


def read_parquet(path: Path, names: Sequence[str]) -> Iterator[tuple[Value, ...]]:
    """Yield these columns of a Parquet file, row by row. Raises DataError if it is damaged or lacks one, and OSError."""
    try:
        with path.open("rb") as opened, _extra("pyarrow.parquet").ParquetFile(opened) as file:
            check_columns(path, names, file.schema_arrow.names)
            for batch in file.iter_batches(columns=list(names)):
                yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    except ValueError as error:  # of pyarrow: ArrowInvalid
        raise DataError(f"{path} is damaged ({error})") from error


def parquet_names(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file. Raises DataError for a damaged file, and OSError."""
    try:
        with path.open("rb") as opened:
            names: list[str] = _extra("pyarrow.parquet").read_schema(opened).names
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error})") from error
    return names


def check_columns(path: Path, names: Sequence[str], found: Sequence[str]) -> None:
    """Raise DataError if a table has not exactly one column of each name."""
    for name in names:
        if found.count(name) != 1:
            raise DataError(f"{path} has {found.count(name)} columns {name}, not one")


def _extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise UsageError(f"this needs {package}: pip install 'moodring[batch]'") from error


@contextlib.contextmanager
def private_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for its owner alone (results are personal data). It replaces `path` at the end; an error removes it."""
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
