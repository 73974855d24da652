"""Events as JSON lines, to a file or standard output; every line is written whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge.errors import PublishError
from edge.publish.cloudevents import to_json
from edge.types import EmotionEvent


class ReaderGoneError(PublishError):
    """Whoever read standard output has closed it (as `head` does): not a failure of ours."""

    exit_code = 0


class JsonLines:
    """Writes to a path, or to standard output for `-`. An existing file is appended to."""

    def __init__(self, path: str) -> None:
        self.name = "standard output" if path == "-" else path
        if path == "-" and sys.stdout is None:
            raise PublishError(f"events cannot be written to {self.name}: it is closed")
        try:
            self._fd = (
                os.dup(sys.stdout.fileno())
                if path == "-"
                else os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            )
        except OSError as error:
            raise PublishError(f"events cannot be written to {self.name}: {error.strerror}") from error

    def publish(self, event: EmotionEvent) -> None:
        """Write one line at once, so that a reader never waits for a buffer to fill."""
        line = memoryview((to_json(event) + "\n").encode())
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except BrokenPipeError as error:
            raise ReaderGoneError(f"the reader of {self.name} has gone; stopping") from error
        except OSError as error:
            raise PublishError(f"events cannot be written to {self.name}: {error.strerror}") from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
