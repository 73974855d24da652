"""Events as JSON lines, to a file or standard output; every line is written whole, whatever happens to the disk."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moodring.errors import PublishError
from moodring.publish.base import Event
from moodring.publish.cloudevents import to_json
from moodring.types import Fsync, StatusEvent

BYTES_PER_MB = 1_000_000
S_PER_H = 3600.0
LINE_PREFIX = b'{"specversion"'  # how a line of ours begins
MAX_LINE_BYTES = 65536


class ReaderGoneError(PublishError):
    """Whoever read standard output has closed it (as `head` does): not a failure of ours."""

    exit_code = 0


@dataclass(frozen=True, slots=True)
class FilePolicy:
    """When a new file is begun (0: never), how many old ones are kept (0: all), when it is flushed to the disk itself."""

    rotate_mb: float = 0.0
    rotate_h: float = 0.0
    keep_files: int = 0
    fsync: Fsync = "never"
    status: bool = False


class JsonLines:
    """Writes to a path, or to standard output for `-`. An existing file is appended to.

    A full disk is a PublishError and leaves no half line: the same event may be given again once there is room.
    """

    def __init__(self, path: str, policy: FilePolicy | None = None, wall_s: Callable[[], float] = time.time) -> None:
        self.name = "standard output" if path == "-" else path
        self._path = None if path == "-" else Path(path)
        self._policy = policy or FilePolicy()
        self._wall_s = wall_s
        self._fd = -1
        if path == "-" and sys.stdout is None:
            raise PublishError(f"events cannot be written to {self.name}: it is closed")
        self._open()

    def _open(self) -> None:
        try:
            self._fd = (
                os.dup(sys.stdout.fileno())
                if self._path is None
                else os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            )
            self._is_file = self._path is not None and stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self._is_file:
                self._repair_tail()
        except OSError as error:
            raise PublishError(f"events cannot be written to {self.name}: {error.strerror}") from error
        self._opened_s = self._flushed_s = self._wall_s()

    def _repair_tail(self) -> None:
        """Cut off a line of ours that a killed process left half written; end any other text properly."""
        size = os.fstat(self._fd).st_size
        partial_line = _last_line(self._path, size) if self._path and size else b""
        if partial_line.startswith(LINE_PREFIX):
            os.ftruncate(self._fd, size - len(partial_line))
        elif partial_line:
            os.write(self._fd, b"\n")

    def publish(self, event: Event) -> None:
        """Write one line at once, so that a reader never waits for a buffer to fill."""
        if isinstance(event, StatusEvent) and not self._policy.status:
            return
        line = (to_json(event) + "\n").encode()
        try:
            if self._fd < 0:  # what rotation could not open again
                self._open()
            if self._is_file and self._is_rotation_due(len(line)):
                self._rotate()
            self._write(line)
            self._flush()
        except BrokenPipeError as error:
            raise ReaderGoneError(f"the reader of {self.name} has gone; stopping") from error
        except OSError as error:
            raise PublishError(f"events cannot be written to {self.name}: {error.strerror}") from error

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:] if written else line)
        except OSError:
            if self._is_file and written:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise

    def _flush(self) -> None:
        if self._policy.fsync == "never" or not self._is_file:
            return
        now_s = self._wall_s()
        if self._policy.fsync == "always" or abs(now_s - self._flushed_s) >= 1.0:
            os.fsync(self._fd)
            self._flushed_s = now_s

    def _is_rotation_due(self, next_bytes: int) -> bool:
        if not (self._policy.rotate_mb or self._policy.rotate_h):
            return False
        size = os.fstat(self._fd).st_size
        too_big = self._policy.rotate_mb > 0 and size + next_bytes > self._policy.rotate_mb * BYTES_PER_MB
        too_old = self._policy.rotate_h > 0 and self._wall_s() - self._opened_s >= self._policy.rotate_h * S_PER_H
        return size > 0 and (too_big or too_old)

    def _rotate(self) -> None:
        """Give the file the time as a part of its name, begin a new one, and remove the oldest beyond those to keep."""
        assert self._path is not None  # noqa: S101  for the type checker
        stamp = dt.datetime.fromtimestamp(self._wall_s(), dt.UTC).strftime("%Y%m%dT%H%M%S.%f")
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}Z{self._path.suffix}"))
        self.close()
        self._open()
        old = sorted(self._path.parent.glob(f"{self._path.stem}-[0-9]*T[0-9]*Z{self._path.suffix}"))
        if self._policy.keep_files > 0:
            for path in old[: -self._policy.keep_files]:
                path.unlink()

    def close(self) -> None:
        if self._fd >= 0:
            if self._is_file and self._policy.fsync != "never":
                with contextlib.suppress(OSError):
                    os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1


def _last_line(path: Path, size: int) -> bytes:
    """Return what follows the last line's end, as far as it is ours to read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, size - MAX_LINE_BYTES))
            tail = file.read()
    except OSError:
        return b""
    return tail[tail.rfind(b"\n") + 1 :]
