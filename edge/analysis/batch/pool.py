"""Worker processes. They share nothing: each gets one file at a time over a pipe, and writes its part.

A worker that dies, by a crash of a library or for lack of memory, loses no file: the file is tried once more in another worker
at the end, and then listed as failed. A worker ends at once when the main process does, whatever ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from moodring.analysis.batch.jobs import Job
from moodring.analysis.batch.parts import Parts
from moodring.analysis.batch.settings import Settings
from moodring.analysis.batch.work import Part, failed_part, open_analyst
from moodring.errors import MoodringError, printable
from moodring.process import limit_arenas, log, trim_heap

PR_SET_PDEATHSIG = 1  # prctl(2), Linux only
TRIES = 2  # of one file whose worker dies
MAX_FAILED_STARTS = 3  # in a row
TICK_S = 1.0


@dataclass(slots=True)
class _Worker:
    """A worker process: the file that it reads, and whether its networks are loaded."""

    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    is_ready: bool = False
    error: str = ""  # that ends it


class Pool:
    """`count` worker processes for the files `jobs`."""

    def __init__(self, jobs: Sequence[Job], settings: Settings, parts: Parts, count: int) -> None:
        self._queue = deque(jobs)
        self._settings, self._parts = settings, parts
        self._tries: dict[int, int] = {}
        self._failed_starts = 0
        self._workers: list[_Worker] = []
        self._count = min(count, len(jobs))

    def run(self) -> Generator[tuple[Job, Part] | None]:
        """Yield each job with its part when the part is on disk, and None at least once a second.

        Raises MoodringError if no worker can start or write. All workers have ended when the iterator is closed.
        """
        try:
            self._start()
            while self._workers:
                pipes = {worker.pipe: worker for worker in self._workers}
                for pipe in multiprocessing.connection.wait(list(pipes), TICK_S):
                    yield from self._receive(pipes[pipe])  # type: ignore[index]
                yield None
        finally:
            self._kill()

    def _start(self) -> None:
        """Start workers until all files in the queue have one, or there are `count`."""
        context = multiprocessing.get_context("spawn")
        idle = sum(worker.job is None for worker in self._workers)
        while len(self._workers) < self._count and idle < len(self._queue):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, self._settings, self._parts, os.getpid()), daemon=True)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a worker inherits this: Ctrl-C is not for it
            try:
                process.start()
                self._workers.append(_Worker(process, ours))
            finally:
                theirs.close()
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            idle += 1

    def _receive(self, worker: _Worker) -> Iterator[tuple[Job, Part]]:
        """Handle a message of a worker, or its end."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._end(worker)
            return
        if isinstance(message, MoodringError):
            raise message
        if isinstance(message, str):
            worker.error = message
            return
        job, worker.job = worker.job, None
        if message is None:
            worker.is_ready, self._failed_starts = True, 0
        elif job is not None:
            yield job, message
        if self._queue:
            worker.job = self._queue.popleft()
        with contextlib.suppress(OSError):  # it died meanwhile: its pipe ends next
            worker.pipe.send(worker.job)

    def _end(self, worker: _Worker) -> Iterator[tuple[Job, Part]]:
        """Handle the end of a worker: finish its file, or try it again, and start another worker."""
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        job, how = worker.job, worker.error or _how(worker.process.exitcode)
        if job is not None:
            part = self._parts.head(job)  # written before the worker could tell
            if part is None:
                self._tries[job.number] = self._tries.get(job.number, 0) + 1
                part = self._retry(job, how)
            if part is not None:
                yield job, part
        elif not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts == MAX_FAILED_STARTS:
                raise MoodringError(f"worker processes end before they start: {how}; check the memory of this machine")
        self._start()

    def _retry(self, job: Job, how: str) -> Part | None:
        """Put a file back into the queue; at its last try return its part, which lists it as failed."""
        if self._tries[job.number] < TRIES:
            log(f"{job.name}: its worker process ended ({how}); it is tried once more")
            self._queue.append(job)
            return None
        reason = (
            f"{printable(job.name)}: the worker process that read it ended {TRIES} times ({how}); check the file and the memory"
        )
        part, data = failed_part(job, self._settings, reason)
        self._parts.write(job, data)
        return part

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}, {signal.Signals(-code).name}" if -code in signal.valid_signals() else f"signal {-code}"
    return f"exit code {code}"


def work(pipe: Connection, settings: Settings, parts: Parts, parent: int) -> None:
    """Be a worker: analyse the files that come over the pipe and write their parts, until there is none or the parent ends."""
    _end_with(parent)
    limit_arenas()
    try:
        analyst = open_analyst(settings)
        pipe.send(None)
        while (job := pipe.recv()) is not None:
            part, data = analyst.part(job)
            try:
                parts.write(job, data)
            except OSError as error:
                raise MoodringError(
                    f"{parts.folder} cannot be written ({error.strerror or error}); make space or correct its permissions, "
                    "then start the same command again"
                ) from error
            trim_heap()
            pipe.send(part)
    except MoodringError as error:
        pipe.send(error)
    except (EOFError, BrokenPipeError):
        return  # the parent has ended
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {error}")
        raise


def _end_with(parent: int) -> None:
    """End this process when its parent ends, also by SIGKILL. Elsewhere than on Linux it ends after its file."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
