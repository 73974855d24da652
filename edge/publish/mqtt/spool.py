"""Queue of undelivered events on disk: ordered, bounded in bytes and age, safe against kill -9.

SQLite in WAL mode. An event stays from `append` until `remove_delivered` or `drop`. `append` drops the oldest events beyond
the byte limit and the age limit. The file also holds the counts of dropped events. Over the life of the file,
stored = delivered + dropped + pending.
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
CREATE TABLE IF NOT EXISTS refusals (position INTEGER PRIMARY KEY, count INTEGER NOT NULL);
DELETE FROM refusals WHERE position NOT IN (SELECT position FROM events);
"""
COUNT_REFUSAL = "INSERT INTO refusals VALUES (?, 1) ON CONFLICT (position) DO UPDATE SET count = count + 1 RETURNING count"
COUNT_DROPPED = "INSERT INTO dropped VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET events = events + excluded.events"
INSERT_EVENT = "INSERT INTO events VALUES (?, ?, ?)"
DELETE_SPAN = "DELETE FROM events WHERE position BETWEEN ? AND ? RETURNING length(body)"
AGE_CHECK_INTERVAL_NS = 10 * NS_PER_S
# A board without a real-time clock starts in 1970 or at the date of its image. The age of events stored then is unknown.
CLOCK_VALID_FROM_NS = 1_700_000_000 * NS_PER_S
LOCK_TIMEOUT_S = 1.0
TAIL_EVENTS = 64  # newest events that are also in memory: a reader that keeps up does not read the file


@dataclass(frozen=True, slots=True)
class SpooledEvent:
    """An undelivered event: its position in the order of events, and its JSON."""

    position: int
    body: str


class Spool:
    """A queue in the file `path`. One process at a time can open it. Any thread may call it.

    `max_bytes` limits the total JSON length, `max_age_s` the time in the spool. `fsync` also protects events against a power
    cut. `wall_ns` returns the time in ns since the epoch. `last_position` is the position of the event stored last;
    after `open`, of the newest pending event.
    """

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
        self.max_bytes = max_bytes
        self._max_age_ns = int(max_age_s * NS_PER_S)
        self._fsync = fsync
        self._wall_ns = wall_ns
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._age_checked_ns = 0
        # The newest pending events: all of them from the first position in it
        self._tail: deque[SpooledEvent] = deque(maxlen=TAIL_EVENTS)
        self.damaged_path: Path | None = None
        self.pending = 0
        self.stored_bytes = 0
        self.last_position = 0
        self.dropped: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Open or create the file. A damaged file is renamed to `damaged_path`, and a new one is created.

        Raises PublishError if the file cannot be opened or created.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.touch(mode=0o600)  # events are personal data
            self._db = self._connect()
        except sqlite3.OperationalError as error:  # locked, read-only or disk full: the file is not damaged
            advice = "if another moodring uses it, set another mqtt.spool.path"
            raise PublishError(f"spool {self.path} cannot be opened: {error}; {advice}") from error
        except sqlite3.DatabaseError:
            self.damaged_path = self.path.with_name(f"{self.path.name}.damaged-{self._wall_ns() // NS_PER_S}")
            self.path.rename(self.damaged_path)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
            self.path.touch(mode=0o600)
            self._db = self._connect()
        except OSError as error:
            raise PublishError(f"spool {self.path} cannot be created: {error.strerror}; change mqtt.spool.path") from error
        with self._transaction() as db:
            totals = db.execute("SELECT count(*), coalesce(sum(length(body)), 0), coalesce(max(position), 0) FROM events")
            self.pending, self.stored_bytes, self.last_position = totals.fetchone()
            self.dropped = dict(db.execute("SELECT reason, events FROM dropped"))
        self._tail.clear()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            # NORMAL loses no commit if the process is killed, but a power cut can lose the last events. FULL prevents that.
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
        """Lock the database. `atomic` makes all statements one transaction, rolled back on an error.

        Raises PublishError if the spool is not open or a statement fails.
        """
        with self._lock:
            if self._db is None:
                raise PublishError(f"spool {self.path} is not open")
            try:
                if atomic:
                    self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                if atomic:
                    self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._rollback()
                raise PublishError(f"spool {self.path} cannot be read or written: {error}") from error
            except BaseException:
                self._rollback()
                raise

    def _rollback(self) -> None:
        if self._db is not None and self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def append(self, body: str) -> int:
        """Store an event and return its position. Positions increase while the spool is open.

        After the return, kill -9 does not lose the event. Raises PublishError if the file cannot be written.
        """
        now_ns = self._wall_ns()
        dropped_now: dict[str, int] = {}
        freed_bytes = 0
        with self._lock:
            position = self.last_position + 1
            if self._is_age_check_due(now_ns) or self.stored_bytes + len(body) > self.max_bytes:
                with self._transaction() as db:
                    db.execute(INSERT_EVENT, (position, now_ns, body))
                    freed_bytes = self._drop_expired(db, now_ns, dropped_now)
                    freed_bytes += self._drop_excess(db, self.stored_bytes + len(body) - freed_bytes, dropped_now)
                    db.executemany(COUNT_DROPPED, dropped_now.items())
            else:
                with self._transaction(atomic=False) as db:  # one statement is already a transaction
                    db.execute(INSERT_EVENT, (position, now_ns, body))
            self.last_position = position
            if dropped_now:
                self._tail.clear()
            else:
                self._tail.append(SpooledEvent(position, body))
            self.pending += 1 - sum(dropped_now.values())
            self.stored_bytes += len(body) - freed_bytes
            self.dropped |= {reason: self.dropped.get(reason, 0) + count for reason, count in dropped_now.items()}
        return position

    def _is_age_check_due(self, now_ns: int) -> bool:
        if abs(now_ns - self._age_checked_ns) < AGE_CHECK_INTERVAL_NS:
            return False
        self._age_checked_ns = now_ns
        return True

    def _drop_expired(self, db: sqlite3.Connection, now_ns: int, dropped_now: dict[str, int]) -> int:
        """Delete events beyond the age limit, count them in `dropped_now`, and return their size in bytes."""
        deleted = db.execute(
            "DELETE FROM events WHERE stored_ns >= ? AND stored_ns < ? RETURNING length(body)",
            (CLOCK_VALID_FROM_NS, now_ns - self._max_age_ns),
        ).fetchall()
        if deleted:
            dropped_now["too_old"] = len(deleted)
        return sum(size for (size,) in deleted)

    def _drop_excess(self, db: sqlite3.Connection, stored_bytes: int, dropped_now: dict[str, int]) -> int:
        """Delete the oldest events beyond the byte limit, count them in `dropped_now`, and return their size in bytes."""
        deleted_bytes = 0
        while stored_bytes - deleted_bytes > self.max_bytes:
            deleted = db.execute(
                "DELETE FROM events WHERE position = (SELECT min(position) FROM events) RETURNING length(body)"
            ).fetchone()
            if deleted is None:
                break
            deleted_bytes += deleted[0]
            dropped_now["spool_full"] = dropped_now.get("spool_full", 0) + 1
        return deleted_bytes

    def read_after(self, position: int, limit: int) -> list[SpooledEvent]:
        """Return up to `limit` pending events after a position, oldest first."""
        if limit <= 0 or position >= self.last_position:
            return []
        with self._lock:
            if self._tail and self._tail[0].position <= position + 1:
                return list(itertools.islice((event for event in self._tail if event.position > position), limit))
        with self._transaction(atomic=False) as db:
            rows = db.execute(
                "SELECT position, body FROM events WHERE position > ? ORDER BY position LIMIT ?", (position, limit)
            )
            return [SpooledEvent(*row) for row in rows]

    def remove_delivered(self, positions: Iterable[int]) -> int:
        """Remove delivered events. Return how many of them were pending."""
        return self._remove(positions, None)

    def drop(self, positions: Iterable[int], reason: str) -> int:
        """Remove undeliverable events and count them under `reason`. Return how many of them were pending."""
        return self._remove(positions, reason)

    def _remove(self, positions: Iterable[int], reason: str | None) -> int:
        removed = set(positions)
        with self._lock:
            with self._transaction() as db:
                deleted = [row[0] for span in _spans(removed) for row in db.execute(DELETE_SPAN, span).fetchall()]
                if reason and deleted:
                    db.execute(COUNT_DROPPED, (reason, len(deleted)))
            self._tail = deque((event for event in self._tail if event.position not in removed), TAIL_EVENTS)
            self.pending -= len(deleted)
            self.stored_bytes -= sum(deleted)
            if reason and deleted:
                self.dropped[reason] = self.dropped.get(reason, 0) + len(deleted)
        return len(deleted)

    def count_refusal(self, position: int) -> int:
        """Count that the broker refused an event. Return how often it did, in earlier runs too."""
        with self._transaction() as db:
            return int(db.execute(COUNT_REFUSAL, (position,)).fetchone()[0])

    def announced(self) -> set[str]:
        """Return the Home Assistant topics that are announced and not withdrawn."""
        with self._transaction(atomic=False) as db:
            return {topic for (topic,) in db.execute("SELECT topic FROM announced")}

    def store_announced(self, topics: Iterable[str]) -> None:
        """Replace the stored set of announced topics."""
        with self._transaction() as db:
            db.execute("DELETE FROM announced")
            db.executemany("INSERT INTO announced VALUES (?)", [(topic,) for topic in topics])

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None


def _spans(positions: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last position of each consecutive run, so that one statement can delete a run."""
    spans: list[tuple[int, int]] = []
    for position in sorted(positions):
        if spans and spans[-1][1] == position - 1:
            spans[-1] = (spans[-1][0], position)
        else:
            spans.append((position, position))
    return spans
