"""The record of a batch, `run.json`: what the results depend on, and what came out. A folder with one is that of a batch."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moodring.analysis.batch.settings import Settings, differences
from moodring.analysis.tables import private_file
from moodring.errors import DataError, UsageError

FORMAT = "moodring.batch.1"
FILE, PARTS, LOCK = "run.json", "parts", ".lock"
TABLES_LOCK = f"{LOCK}-tables"
COMPARED = ("versions", "bundle", "settings")


def open_folder(out: Path, settings: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Make the output folder with its record, or check that the record of an existing one is of these settings.

    `given` is added to a new record. Returns the record. Raises UsageError for a folder that is not the output of a batch, or
    is that of a batch with other settings, and OSError.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder with --out")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: the folder {out.parent} does not exist; make it first")
    if out.is_dir() and not (out / FILE).exists() and any(path.name not in (LOCK, PARTS) for path in _visible(out)):
        raise UsageError(f"{out} has other files, and no {FILE} of an earlier batch; name a new or an empty folder with --out")
    out.mkdir(mode=0o700, exist_ok=True)
    now = {
        "format": FORMAT,
        "state": "running",
        "started": _now(),
        **settings.record(),
        "python": platform.python_version(),
        **given,
    }
    _create(out / FILE, now)
    record = read(out)
    found = differences({name: record.get(name) for name in COMPARED}, {name: now[name] for name in COMPARED})
    if found:
        raise UsageError(
            f"{out} is the output of a batch with other settings: {'; '.join(found)}. Use the settings of {out / FILE}, or "
            "another folder"
        )
    (out / PARTS).mkdir(mode=0o700, exist_ok=True)
    return record


def read(out: Path) -> dict[str, Any]:
    """Return the record in a folder. Raises UsageError if it is not one, OSError if it cannot be read."""
    try:
        record = json.loads((out / FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{out / FILE} is not the record of a batch ({error}); name another folder") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UsageError(f"{out / FILE} is not the record of a batch of this version; name another folder")
    return record


def finish(out: Path, record: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write the record of a complete batch."""
    complete = {**record, "state": "complete", "finished": _now(), **result}
    with private_file(out / FILE) as file:
        file.write(_text(complete).encode())


@contextlib.contextmanager
def locked(out: Path, part: tuple[int, int] | None) -> Iterator[None]:
    """Hold the lock of the whole output folder, or of one shard of it. Raises DataError if another process holds it."""
    with contextlib.ExitStack() as stack:
        shared = stack.enter_context((out / LOCK).open("ab"))
        _lock(out, shared.fileno(), fcntl.LOCK_EX if part is None else fcntl.LOCK_SH)
        if part is not None:
            own = stack.enter_context((out / f"{LOCK}-{part[0]}-of-{part[1]}").open("ab"))
            _lock(out, own.fileno(), fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def writing_tables(out: Path) -> Iterator[None]:
    """Wait until no other shard writes the tables, and let none begin meanwhile."""
    with (out / TABLES_LOCK).open("ab") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _lock(out: Path, handle: int, kind: int) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"{out} is in use by another batch; wait for its end, or name another folder") from error
    except OSError:
        return  # a file system without locks


def _visible(out: Path) -> Iterator[Path]:
    return (path for path in out.iterdir() if not path.name.startswith("."))


def _create(path: Path, record: Mapping[str, Any]) -> None:
    """Write a new record, complete or absent. Another one that exists stays, also if it comes meanwhile."""
    if path.exists():
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_text(record).encode())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1) + "\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
