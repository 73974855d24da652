"""Events as JSON lines, to a file or standard output. Only complete lines remain in the file, even after a full disk."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moodring.errors import PublishError
from moodring.publish.base import BYTES_PER_MB, S_PER_H, Event, ReaderGoneError
from moodring.publish.cloudevents import to_json
from moodring.types import Fsync, StatusEvent

LINE_PREFIX = b'{"specversion"'  # the start of every event line
MAX_LINE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class FilePolicy:
    """How an event file is written.

    `rotate_mb` and `rotate_h` are the size and age at which a new file starts (0: never), `keep_files` is how many old files
    remain (0: all), `fsync` is when the file is flushed to the disk, `status` adds status events.
    """

    rotate_mb: float = 0.0
    rotate_h: float = 0.0
    keep_files: int = 0
    fsync: Fsync = "never"
    status: bool = False


class JsonLines:
    """Appends events to the file `path`, or writes them to standard output for `-`.

    A full disk raises PublishError and leaves no partial line: `publish` can be called again with the same event.

    `wall_s` returns the time in seconds since the epoch, for rotation.
    """

    def __init__(self, path: str, policy: FilePolicy | None = None, wall_s: Callable[[], float] = time.time) -> None:
        self.name = "standard output" if path == "-" else path
        self._path = None if path == "-" else Path(path)
        self._policy = policy or FilePolicy()
        self._wall_s = wall_s
        self._fd = -1
        if path == "-" and sys.stdout is None:
            raise PublishError(f"events cannot be written to {self.name}: it is closed; write to a file with --events FILE")
        self._open()

    def _open(self) -> None:
        try:
            self._fd = (
                os.dup(sys.stdout.fileno())
                if self._path is None
                else os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # personal data
            )
            self._is_file = self._path is not None and stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self._is_file:
                self._repair_tail()
        except OSError as error:
            raise PublishError(f"events cannot be written to {self.name}: {error.strerror}") from error
        self._opened_s = self._flushed_s = self._wall_s()

    def _repair_tail(self) -> None:
        """Remove an incomplete event line that a killed process left; end another text, or a whole event, with a newline."""
        size = os.fstat(self._fd).st_size
        line = _last_line(self._path, size) if self._path and size else b""
        if line.startswith(LINE_PREFIX) and not _is_whole(line):
            os.ftruncate(self._fd, size - len(line))
        elif line:
            os.write(self._fd, b"\n")

    def publish(self, event: Event) -> None:
        """Write one line, unbuffered. Raises PublishError; ReaderGoneError if the reader closed standard output."""
        if isinstance(event, StatusEvent) and not self._policy.status:
            return
        line = (to_json(event) + "\n").encode()
        try:
            if self._fd < 0:  # the last rotation could not open the new file
                self._open()
            if self._is_file and self._is_rotation_due(len(line)):
                self._rotate()
            self._write(line)
            self._flush()
        except BrokenPipeError as error:
            raise ReaderGoneError(f"the reader closed {self.name}; stopping") from error
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
        """Rename the file to a name with the time, open a new one, and delete the oldest beyond `keep_files`."""
        assert self._path is not None  # noqa: S101  for the type checker
        stamp = dt.datetime.fromtimestamp(self._wall_s(), dt.UTC).strftime("%Y%m%dT%H%M%S.%f")
        before = os.fstat(self._fd)
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}Z{self._path.suffix}"))
        self.close()
        self._open()
        self._keep_access(before)
        old = sorted(self._path.parent.glob(f"{self._path.stem}-[0-9]*T[0-9]*Z{self._path.suffix}"))
        if self._policy.keep_files > 0:
            for path in old[: -self._policy.keep_files]:
                path.unlink()

    def _keep_access(self, before: os.stat_result) -> None:
        """Give the new file the group and the mode that the user gave the one before, but never access for all users."""
        if not before.st_mode & stat.S_IRWXO:
            with contextlib.suppress(OSError):
                os.fchown(self._fd, -1, before.st_gid)
                os.fchmod(self._fd, stat.S_IMODE(before.st_mode))

    def close(self) -> None:
        if self._fd >= 0:
            if self._is_file and self._policy.fsync != "never":
                with contextlib.suppress(OSError):
                    os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _last_line(path: Path, size: int) -> bytes:
    """Return the bytes after the last newline; nothing if the file cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, size - MAX_LINE_BYTES))
            tail = file.read()
    except OSError:
        return b""
    return tail[tail.rfind(b"\n") + 1 :]
