"""Events that wait for their delivery, on disk: in order, bounded in bytes and age, and unharmed by kill -9.

SQLite in WAL mode. An event is kept from `append` until `delivered`; only the byte cap and the age cap drop one, the oldest
first, and both are counted in the file itself. Stored = delivered + dropped + waiting, exactly, over the spool's whole life.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from moodring.clock import NS_PER_S
from moodring.errors import PublishError

TABLES = """
CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY, stored_ns INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS dropped (reason TEXT PRIMARY KEY, events INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS announced (topic TEXT PRIMARY KEY);
"""
COUNT_DROPPED = "INSERT INTO dropped VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET events = events + excluded.events"
INSERT_EVENT = "INSERT INTO events VALUES (?, ?, ?)"
DELETE_SPAN = "DELETE FROM events WHERE position BETWEEN ? AND ? RETURNING length(body)"
AGE_CHECK_INTERVAL_NS = 10 * NS_PER_S
# A board without a clock of its own starts in 1970 or at its image's date: what it stored then has no known age.
CLOCK_VALID_FROM_NS = 1_700_000_000 * NS_PER_S
LOCK_TIMEOUT_S = 1.0
TAIL_EVENTS = 64  # events that are held in memory as well: what follows the stream need not ask the file


@dataclass(frozen=True, slots=True)
class SpooledEvent:
    """One event that waits: where it stands in the order of events, and its JSON."""

    position: int
    body: str


class Spool:
    """A queue in one file, which one process at a time may open. Any thread may call it."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        max_age_s: float,
        fsync: bool = False,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._max_age_ns = int(max_age_s * NS_PER_S)
        self._fsync = fsync
        self._wall_ns = wall_ns
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._age_checked_ns = 0
        self._tail: deque[SpooledEvent] = deque(
            maxlen=TAIL_EVENTS
        )  # the newest events: all that wait from its first position on
        self.damaged_path: Path | None = None
        self.pending = 0
        self.bytes = 0
        self.newest = 0  # the position of the event stored last
        self.dropped: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Open or create the file; a damaged one is set aside under another name (`set_aside`). PublishError otherwise."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.touch(mode=0o600)  # a log of events is personal data
            self._db = self._connect()
        except sqlite3.OperationalError as error:  # locked, read-only, full: the file itself is sound
            advice = "is another moodring running with it? give this one its own mqtt.spool.path"
            raise PublishError(f"the spool {self.path} cannot be used: {error}; {advice}") from error
        except sqlite3.DatabaseError:
            self.damaged_path = self.path.with_name(f"{self.path.name}.damaged-{self._wall_ns() // NS_PER_S}")
            self.path.rename(self.damaged_path)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
            self.path.touch(mode=0o600)
            self._db = self._connect()
        except OSError as error:
            raise PublishError(f"the spool {self.path} cannot be made: {error.strerror}") from error
        with self._transaction() as db:
            totals = db.execute("SELECT count(*), coalesce(sum(length(body)), 0), coalesce(max(position), 0) FROM events")
            self.pending, self.bytes, self.newest = totals.fetchone()
            self.dropped = dict(db.execute("SELECT reason, events FROM dropped"))
        self._tail.clear()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            # NORMAL: a killed process loses nothing that was committed; a power cut may lose the last events, FULL does not.
            db.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
            db.execute("PRAGMA journal_size_limit = 4194304")
            db.executescript(TABLES)
            db.execute("SELECT count(*), max(position) FROM events").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    @contextmanager
    def _transaction(self, *, atomic: bool = True) -> Iterator[sqlite3.Connection]:
        """Hold the file; `at_once` for one transaction, of which all is done or nothing. PublishError where it fails."""
        with self._lock:
            if self._db is None:
                raise PublishError(f"the spool {self.path} is not open")
            try:
                if atomic:
                    self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                if atomic:
                    self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._rollback()
                raise PublishError(f"the spool {self.path} cannot be written: {error}") from error
            except BaseException:
                self._rollback()
                raise

    def _rollback(self) -> None:
        if self._db is not None and self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def append(self, body: str) -> int:
        """Keep an event; when this returns, kill -9 cannot take it back. Returns its position, which rises while it is open."""
        now_ns = self._wall_ns()
        dropped_now: dict[str, int] = {}
        freed_bytes = 0
        with self._lock:
            position = self.newest + 1
            if self._is_age_check_due(now_ns) or self.bytes + len(body) > self._max_bytes:
                with self._transaction() as db:
                    db.execute(INSERT_EVENT, (position, now_ns, body))
                    freed_bytes = self._drop_expired(db, now_ns, dropped_now)
                    freed_bytes += self._drop_excess(db, self.bytes + len(body) - freed_bytes, dropped_now)
                    db.executemany(COUNT_DROPPED, dropped_now.items())
            else:
                with self._transaction(atomic=False) as db:  # a transaction of its own
                    db.execute(INSERT_EVENT, (position, now_ns, body))
            self.newest = position
            if dropped_now:
                self._tail.clear()
            else:
                self._tail.append(SpooledEvent(position, body))
            self.pending += 1 - sum(dropped_now.values())
            self.bytes += len(body) - freed_bytes
            self.dropped |= {reason: self.dropped.get(reason, 0) + count for reason, count in dropped_now.items()}
        return position

    def _is_age_check_due(self, now_ns: int) -> bool:
        if abs(now_ns - self._age_checked_ns) < AGE_CHECK_INTERVAL_NS:
            return False
        self._age_checked_ns = now_ns
        return True

    def _drop_expired(self, db: sqlite3.Connection, now_ns: int, dropped_now: dict[str, int]) -> int:
        deleted = db.execute(
            "DELETE FROM events WHERE stored_ns >= ? AND stored_ns < ? RETURNING length(body)",
            (CLOCK_VALID_FROM_NS, now_ns - self._max_age_ns),
        ).fetchall()
        if deleted:
            dropped_now["too_old"] = len(deleted)
        return sum(size for (size,) in deleted)

    def _drop_excess(self, db: sqlite3.Connection, stored_bytes: int, dropped_now: dict[str, int]) -> int:
        deleted_bytes = 0
        while stored_bytes - deleted_bytes > self._max_bytes:
            deleted = db.execute(
                "DELETE FROM events WHERE position = (SELECT min(position) FROM events) RETURNING length(body)"
            ).fetchone()
            if deleted is None:
                break
            deleted_bytes += deleted[0]
            dropped_now["spool_full"] = dropped_now.get("spool_full", 0) + 1
        return deleted_bytes

    def read_after(self, position: int, limit: int) -> list[SpooledEvent]:
        """Return up to `limit` waiting events behind a position, oldest first."""
        if limit <= 0 or position >= self.newest:
            return []
        with self._lock:
            if self._tail and self._tail[0].position <= position + 1:
                return list(itertools.islice((event for event in self._tail if event.position > position), limit))
        with self._transaction(atomic=False) as db:
            rows = db.execute(
                "SELECT position, body FROM events WHERE position > ? ORDER BY position LIMIT ?", (position, limit)
            )
            return [SpooledEvent(*row) for row in rows]

    def delivered(self, positions: Iterable[int]) -> int:
        """Forget events that have arrived; returns how many of them still waited."""
        return self._remove(positions, None)

    def drop(self, positions: Iterable[int], reason: str) -> int:
        """Give up events that can never arrive; counts those that still waited, and returns how many."""
        return self._remove(positions, reason)

    def _remove(self, positions: Iterable[int], reason: str | None) -> int:
        out = set(positions)
        with self._lock:
            with self._transaction() as db:
                deleted = [row[0] for span in _spans(out) for row in db.execute(DELETE_SPAN, span).fetchall()]
                if reason and deleted:
                    db.execute(COUNT_DROPPED, (reason, len(deleted)))
            self._tail = deque((event for event in self._tail if event.position not in out), TAIL_EVENTS)
            self.pending -= len(deleted)
            self.bytes -= sum(deleted)
            if reason and deleted:
                self.dropped[reason] = self.dropped.get(reason, 0) + len(deleted)
        return len(deleted)

    def announced(self) -> set[str]:
        """Return the topics that were announced to Home Assistant and not withdrawn since."""
        with self._transaction(atomic=False) as db:
            return {topic for (topic,) in db.execute("SELECT topic FROM announced")}

    def store_announced(self, topics: Iterable[str]) -> None:
        """Remember exactly these topics as announced."""
        with self._transaction() as db:
            db.execute("DELETE FROM announced")
            db.executemany("INSERT INTO announced VALUES (?)", [(topic,) for topic in topics])

    def oldest_s(self) -> float:
        """Return how long the oldest event has waited, in seconds; 0 where none waits."""
        with self._transaction() as db:
            row = db.execute("SELECT stored_ns FROM events ORDER BY position LIMIT 1").fetchone()
        return max(0.0, (self._wall_ns() - row[0]) / NS_PER_S) if row else 0.0

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None


def _spans(positions: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of consecutive positions: one statement forgets a run."""
    spans: list[tuple[int, int]] = []
    for position in sorted(positions):
        if spans and spans[-1][1] == position - 1:
            spans[-1] = (spans[-1][0], position)
        else:
            spans.append((position, position))
    return spans
