"""The progress of a batch: a bar on a terminal, now and then a line elsewhere. Both go to standard error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

from moodring.analysis.batch.jobs import Job
from moodring.analysis.batch.work import Part, file_state
from moodring.analysis.summary import counted
from moodring.process import log

LINE_S = 10.0  # between two lines


class Progress:
    """Shows how many of the files are done, seconds of media a second, and the time left, which is estimated by size."""

    def __init__(self, jobs: Sequence[Job], done: int) -> None:
        self._sizes = {job.number: max(1, file_state(job.source)[0]) for job in jobs}
        self._bytes, self._read = sum(self._sizes.values()), 0
        self._all, self._done = done + len(jobs), done
        self._failed, self._media_s = 0, 0.0
        console = Console(stderr=True)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("files", total=max(1, self._bytes), text="")
        self._is_bar = console.is_terminal
        self._start_s = self._line_s = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.__enter__()
        self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._bar.__exit__(kind, error, trace)

    def add(self, job: Job, part: Part) -> None:
        """Count a file that is done."""
        self._done += 1
        if part.row is not None:
            self._read += self._sizes[job.number]
            self._media_s += float(part.row["duration_s"] or 0.0)
        else:
            self._bytes -= self._sizes[job.number]  # it took no time to read
            self._failed += 1
            log(str(part.failure))
        self._show()

    def tick(self) -> None:
        """Show the time left again, or a line if the last one is old."""
        self._show()

    @property
    def text(self) -> str:
        """The state in words."""
        elapsed_s = max(1e-3, time.monotonic() - self._start_s)
        failed = f", {self._failed} failed" if self._failed else ""
        text = f"{self._done} of {counted(self._all, 'file')}{failed}, {self._media_s / elapsed_s:.1f} s of media a second"
        if not self._read or self._read == self._bytes:
            return text
        return f"{text}, {_duration(elapsed_s * (self._bytes - self._read) / self._read)} left"

    def _show(self) -> None:
        if self._is_bar:
            self._bar.update(self._task, total=max(1, self._bytes), completed=self._read, text=self.text)
        elif time.monotonic() - self._line_s >= LINE_S:
            self._line_s = time.monotonic()
            log(self.text)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
