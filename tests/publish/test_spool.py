"""The spool: a queue on disk that a model of it in memory cannot be told from, whatever kills it."""

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


class Wall:
    def __init__(self) -> None:
        self.now_ns = CLOCK_VALID_FROM_NS

    def __call__(self) -> int:
        return self.now_ns


def opened(path: Path, wall: Wall | None = None, max_bytes: int = MAX_BYTES, **options) -> Spool:
    spool = Spool(path, max_bytes=max_bytes, max_age_s=MAX_AGE_S, wall_ns=wall or Wall(), **options)
    spool.open()
    return spool


class SpoolMachine(RuleBasedStateMachine):
    """Appends, deliveries in any order, closings and the passing of time, beside a plain list that does the same."""

    @initialize()
    def begin(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "spool"
        self._wall = Wall()
        self._checked_ns = 0
        self._spool = opened(self._path, self._wall)
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
    @rule(which=st.sets(st.integers(0, 20), max_size=4))
    def deliver(self, which: set[int]) -> None:
        positions = {self._model[index % len(self._model)][0] for index in which}
        assert self._spool.delivered([*positions, 10_000]) == len(positions)
        self._model = [event for event in self._model if event[0] not in positions]
        self._delivered += len(positions)

    @precondition(lambda self: self._model)
    @rule(index=st.integers(0, 20))
    def give_up(self, index: int) -> None:
        position = self._model.pop(index % len(self._model))[0]
        assert self._spool.drop([position], "too_large") == 1
        assert self._spool.drop([position], "too_large") == 0
        self._dropped += 1

    @rule(seconds=st.integers(0, 60))
    def wait(self, seconds: int) -> None:
        self._wall.now_ns += seconds * NS_PER_S

    @rule()
    def reopen(self) -> None:
        self._spool.close()
        self._spool = opened(self._path, self._wall)
        self._checked_ns = 0

    @rule(read_after=st.integers(0, 30), limit=st.integers(0, 5))
    def look(self, read_after: int, limit: int) -> None:
        found = [(event.position, event.body) for event in self._spool.read_after(read_after, limit)]
        assert found == [(position, body) for position, _, body in self._model if position > read_after][:limit]

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "_spool"):
            return
        assert self._spool.pending == len(self._model)
        assert self._spool.bytes == sum(len(body) for _, _, body in self._model) <= MAX_BYTES
        dropped = sum(self._spool.dropped.values())
        assert dropped == self._dropped
        assert self._stored == self._delivered + dropped + self._spool.pending

    def teardown(self) -> None:
        if hasattr(self, "_spool"):
            self._spool.close()
            self._folder.cleanup()


TestSpoolAgainstItsModel = SpoolMachine.TestCase
TestSpoolAgainstItsModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_what_was_stored_before_the_clock_was_set_has_no_age(tmp_path: Path):
    wall = Wall()
    wall.now_ns = 5 * NS_PER_S  # 1970: a board without a clock of its own
    spool = opened(tmp_path / "spool", wall)
    spool.append("early")
    wall.now_ns = CLOCK_VALID_FROM_NS + NS_PER_S
    spool.append("late")
    assert [event.body for event in spool.read_after(0, 9)] == ["early", "late"]
    spool.close()


def test_what_was_announced_is_remembered(tmp_path: Path):
    spool = opened(tmp_path / "spool")
    assert spool.announced() == set()
    spool.store_announced(["a", "b"])
    spool.store_announced(["b", "c"])
    spool.close()
    spool = opened(tmp_path / "spool")
    assert spool.announced() == {"b", "c"}
    spool.close()


def test_the_file_stays_near_its_cap(tmp_path: Path):
    spool = opened(tmp_path / "spool", max_bytes=1_000_000)
    for _ in range(5000):
        spool.append("x" * 1000)
    assert spool.pending == 1000
    assert spool.dropped == {"spool_full": 4000}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8_000_000  # twice the cap, and 4 MB of journal
    spool.close()


def test_only_its_owner_may_read_it(tmp_path: Path):
    spool = opened(tmp_path / "state" / "spool")
    spool.append("private")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").glob("spool*")} == {0}
    spool.close()


def test_a_second_process_is_told(tmp_path: Path):
    spool = opened(tmp_path / "spool")
    with pytest.raises(PublishError, match=r"spool cannot be used: database is locked; is another moodring running"):
        opened(tmp_path / "spool")
    spool.close()


@pytest.mark.parametrize("damage", [b"this is no database" * 500, b"\0" * 5000])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: bytes):
    path = tmp_path / "spool"
    path.write_bytes(damage)
    spool = opened(path)
    assert spool.damaged_path.read_bytes() == damage
    spool.append("fresh")
    assert spool.pending == 1
    spool.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match="file/spool cannot be made"):
        opened(tmp_path / "file" / "spool")
    with pytest.raises(PublishError, match="is not open"):
        Spool(tmp_path / "spool", max_bytes=1, max_age_s=1).append("x")


def test_a_full_disk_is_said_and_the_spool_goes_on_when_there_is_room(tmp_path: Path):
    spool = opened(tmp_path / "spool", max_bytes=10_000_000)
    pages = spool._db.execute("PRAGMA page_count").fetchone()[0]
    spool._db.execute(f"PRAGMA max_page_count = {pages + 4}")  # what SQLite says of a full disk
    with pytest.raises(PublishError, match="cannot be written: database or disk is full"):
        [spool.append("x" * 1000) for _ in range(100)]
    kept = spool.pending
    assert kept > 0
    spool._db.execute("PRAGMA max_page_count = 100000")
    spool.append("room again")
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


def test_kill_9_loses_nothing_that_was_reported(tmp_path: Path):
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
    assert kept in (list(range(reported + 1)), list(range(reported + 2)))  # the one being written may be there
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
