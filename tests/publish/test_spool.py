"""The spool: compared with a model in memory, damaged, full, and killed with SIGKILL."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from moodring.clock import NS_PER_S
from moodring.errors import PublishError
from moodring.publish.mqtt.spool import AGE_CHECK_INTERVAL_NS, CLOCK_VALID_FROM_NS, Spool

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 60
MAX_AGE_S = 100.0


class FakeWallClock:
    def __init__(self) -> None:
        self.now_ns = CLOCK_VALID_FROM_NS

    def __call__(self) -> int:
        return self.now_ns


def open_spool(path: Path, wall: FakeWallClock | None = None, max_bytes: int = MAX_BYTES, **options) -> Spool:
    spool = Spool(path, max_bytes=max_bytes, max_age_s=MAX_AGE_S, wall_ns=wall or FakeWallClock(), **options)
    spool.open()
    return spool


class SpoolMachine(RuleBasedStateMachine):
    """Appends, removes, drops, reopens and lets time pass, and does the same with a list."""

    @initialize()
    def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "spool"
        self._wall = FakeWallClock()
        self._checked_ns = 0
        self._spool = open_spool(self._path, self._wall)
        self._model: list[tuple[int, int, str]] = []
        self._stored = self._delivered = self._dropped = 0

    @rule(size=st.integers(1, 70))
    def append(self, size: int) -> None:
        body = "x" * size
        position = self._spool.append(body)
        self._model.append((position, self._wall.now_ns, body))
        self._stored += 1
        if abs(self._wall.now_ns - self._checked_ns) >= AGE_CHECK_INTERVAL_NS:
            self._checked_ns = self._wall.now_ns
            self._drop(lambda: self._model[0][1] < self._wall.now_ns - MAX_AGE_S * NS_PER_S)
        self._drop(lambda: sum(len(body) for _, _, body in self._model) > MAX_BYTES)

    def _drop(self, is_due) -> None:
        while self._model and is_due():
            self._model.pop(0)
            self._dropped += 1

    @precondition(lambda self: self._model)
    @rule(indices=st.sets(st.integers(0, 20), max_size=4))
    def remove_delivered(self, indices: set[int]) -> None:
        positions = {self._model[index % len(self._model)][0] for index in indices}
        assert self._spool.remove_delivered([*positions, 10_000]) == len(positions)
        self._model = [event for event in self._model if event[0] not in positions]
        self._delivered += len(positions)

    @precondition(lambda self: self._model)
    @rule(index=st.integers(0, 20))
    def drop(self, index: int) -> None:
        position = self._model.pop(index % len(self._model))[0]
        assert self._spool.drop([position], "too_large") == 1
        assert self._spool.drop([position], "too_large") == 0
        self._dropped += 1

    @rule(seconds=st.integers(0, 60))
    def pass_time(self, seconds: int) -> None:
        self._wall.now_ns += seconds * NS_PER_S

    @rule()
    def reopen(self) -> None:
        self._spool.close()
        self._spool = open_spool(self._path, self._wall)
        self._checked_ns = 0

    @rule(position=st.integers(0, 30), limit=st.integers(0, 5))
    def read_after(self, position: int, limit: int) -> None:
        found = [(event.position, event.body) for event in self._spool.read_after(position, limit)]
        assert found == [(stored, body) for stored, _, body in self._model if stored > position][:limit]

    @invariant()
    def equals_the_model(self) -> None:
        if not hasattr(self, "_spool"):
            return
        assert self._spool.pending == len(self._model)
        assert self._spool.stored_bytes == sum(len(body) for _, _, body in self._model) <= MAX_BYTES
        dropped = sum(self._spool.dropped.values())
        assert dropped == self._dropped
        assert self._stored == self._delivered + dropped + self._spool.pending

    def teardown(self) -> None:
        if hasattr(self, "_spool"):
            self._spool.close()
            self._folder.cleanup()


TestSpoolAgainstModel = SpoolMachine.TestCase
TestSpoolAgainstModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_events_stored_before_the_clock_was_set_do_not_expire(tmp_path: Path):
    wall = FakeWallClock()
    wall.now_ns = 5 * NS_PER_S  # 1970: a board without a real-time clock
    spool = open_spool(tmp_path / "spool", wall)
    spool.append("early")
    wall.now_ns = CLOCK_VALID_FROM_NS + NS_PER_S
    spool.append("late")
    assert [event.body for event in spool.read_after(0, 9)] == ["early", "late"]
    spool.close()


def test_announced_topics_survive_a_reopen(tmp_path: Path):
    spool = open_spool(tmp_path / "spool")
    assert spool.announced() == set()
    spool.store_announced(["a", "b"])
    spool.store_announced(["b", "c"])
    spool.close()
    spool = open_spool(tmp_path / "spool")
    assert spool.announced() == {"b", "c"}
    spool.close()


def test_file_size_stays_near_the_limit(tmp_path: Path):
    spool = open_spool(tmp_path / "spool", max_bytes=1_000_000)
    for _ in range(5000):
        spool.append("x" * 1000)
    assert spool.pending == 1000
    assert spool.dropped == {"spool_full": 4000}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8_000_000  # twice the limit, and 4 MB of journal
    spool.close()


def test_only_the_owner_can_read_the_files(tmp_path: Path):
    spool = open_spool(tmp_path / "state" / "spool")
    spool.append("private")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").glob("spool*")} == {0}
    spool.close()


def test_second_open_of_a_spool_raises(tmp_path: Path):
    spool = open_spool(tmp_path / "spool")
    with pytest.raises(
        PublishError,
        match=r"spool cannot be opened: database is locked; if another moodring uses it, set another mqtt.spool.path",
    ):
        open_spool(tmp_path / "spool")
    spool.close()


@pytest.mark.parametrize("damage", [b"this is no database" * 500, b"\0" * 5000])
def test_damaged_file_is_renamed_and_a_new_one_created(tmp_path: Path, damage: bytes):
    path = tmp_path / "spool"
    path.write_bytes(damage)
    spool = open_spool(path)
    assert spool.damaged_path.read_bytes() == damage
    spool.append("fresh")
    assert spool.pending == 1
    spool.close()


def test_file_that_cannot_be_created_or_is_not_open_raises(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match=r"file/spool cannot be created: File exists; change mqtt\.spool\.path"):
        open_spool(tmp_path / "file" / "spool")
    with pytest.raises(PublishError, match="is not open"):
        Spool(tmp_path / "spool", max_bytes=1, max_age_s=1).append("x")


def test_full_disk_raises_and_the_spool_works_again_with_space(tmp_path: Path):
    spool = open_spool(tmp_path / "spool", max_bytes=10_000_000)
    pages = spool._db.execute("PRAGMA page_count").fetchone()[0]
    spool._db.execute(f"PRAGMA max_page_count = {pages + 4}")  # the same SQLite error as for a full disk
    with pytest.raises(PublishError, match="cannot be read or written: database or disk is full"):
        [spool.append("x" * 1000) for _ in range(100)]
    kept = spool.pending
    assert kept > 0
    spool._db.execute("PRAGMA max_page_count = 100000")
    spool.append("resumed")
    assert [event.body[0] for event in spool.read_after(0, 1000)] == ["x"] * kept + ["r"]
    spool.close()


WRITER = """
import sys
import tempfile
from pathlib import Path
from moodring.publish.mqtt.spool import Spool

spool = Spool(Path(sys.argv[1]), max_bytes=10**9, max_age_s=1e6)
spool.open()
for index in range(10**6):
    spool.append(f"{index} " + "x" * 500)
    print(index, flush=True)
"""


def test_sigkill_loses_no_stored_event(tmp_path: Path):
    path = tmp_path / "spool"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, env=environment)
    reported = -1
    while reported < 300:
        reported = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().splitlines()
    writer.wait()
    reported = int(rest[-1]) if rest else reported
    with Spool(path, max_bytes=10**9, max_age_s=1e6) as spool:
        kept = [int(event.body.split()[0]) for event in spool.read_after(0, 10**6)]
    assert kept in (list(range(reported + 1)), list(range(reported + 2)))  # the event that was being written may be complete
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
