"""The threads of a live stream: one reads a device and opens it again when it fails, one drives a stage and starts it anew."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from moodring.capture.base import LiveAudio, LiveVideo
from moodring.clock import NS_PER_S, Clock
from moodring.errors import DeviceError
from moodring.types import DeviceState

T = TypeVar("T")

LOST_AFTER_NS = NS_PER_S  # without a fresh datum a device is lost, whatever its library says
AGAIN_FIRST_S, AGAIN_LAST_S = 0.25, 2.0
JITTER = 0.2  # of the wait: many machines must not knock at one server at once
MUTE_POLL_S = 0.1
IDLE_S = 1.0  # a stage looks whether it is to stop
STUCK_NS = 20 * NS_PER_S  # who did nothing for so long, not even fail, hangs


@dataclass(slots=True)
class DeviceHealth:
    """What is known of one live device. It is judged by the time since its last fresh datum."""

    name: str
    last_ns: int | None = None
    reopened: int = 0
    trouble: str | None = None
    muted: bool = False
    doubted: str | None = None  # why whoever uses its data wants it opened again
    alive_ns: int = 0  # when its reader last did anything
    opened_once: bool = False

    def state(self, now_ns: int) -> DeviceState:
        if self.muted:
            return "muted"
        return "ok" if self.last_ns is not None and now_ns - self.last_ns <= LOST_AFTER_NS else "lost"

    def doubt(self, why: str) -> None:
        """Count the device as lost, and have it opened again: what it gave is of no use."""
        self.last_ns, self.doubted = None, why


class Reader(threading.Thread):
    """Reads one device until it is told to stop; a device that fails is closed and opened again, with back-off.

    `step` reads one datum, says when it was captured, and what to do to keep it. While the device is muted it is closed, so
    that whatever shows that it is in use (a light, the sound server) is right.
    """

    def __init__(
        self,
        device: LiveVideo | LiveAudio,
        step: Callable[[], tuple[int, Callable[[], None]]],
        stop: threading.Event,
        log: Callable[[str], None],
        clock: Clock,
    ) -> None:
        super().__init__(name=f"read {device.name}", daemon=True)
        self._clock = clock
        self._device = device
        self._step = step
        self._stopping = stop
        self._log = log
        self._read_ns: int | None = None  # when it last read something since it was opened
        self.health = DeviceHealth(device.name, alive_ns=clock.now_ns())

    def run(self) -> None:
        wait_s = AGAIN_FIRST_S
        while not self._stopping.is_set():
            self.health.alive_ns = self._clock.now_ns()
            if self.health.muted:
                self._device.close()
                self._stopping.wait(MUTE_POLL_S)
                continue
            try:
                self._open()
                while self._read_on():
                    wait_s = AGAIN_FIRST_S
            except DeviceError as error:
                self._note(str(error))
            except Exception as error:  # noqa: BLE001  the supervision boundary: a bug in reading one device ends no other
                self._note(f"a bug in reading {self._device.name}: {error!r}")
            else:
                continue
            self._device.close()
            self._stopping.wait(wait_s * random.uniform(1.0 - JITTER, 1.0 + JITTER))
            wait_s = min(2 * wait_s, AGAIN_LAST_S)
        self._device.close()

    def _open(self) -> None:
        self._device.open()
        self.health.reopened += self.health.opened_once
        self.health.opened_once = True
        self.health.doubted = None
        self._read_ns = None

    def _read_on(self) -> bool:
        """Read one datum; return whether to go on without asking. DeviceError where the device is to be opened again."""
        if self._stopping.is_set() or self.health.muted:
            return False
        if self.health.doubted:
            raise DeviceError(self.health.doubted)
        captured_ns, keep = self._step()
        read_ns = self._clock.now_ns()
        if self._read_ns is not None and read_ns - self._read_ns > LOST_AFTER_NS:
            raise DeviceError(f"{self._device.name} stood still; what it sends after that may be old")
        self._read_ns = read_ns
        keep()
        self.health.last_ns = self.health.alive_ns = captured_ns
        if self.health.trouble:
            self._log(f"{self._device.name}: back")
            self.health.trouble = None
        return True

    def _note(self, trouble: str) -> None:
        """Say what is wrong when it begins, not at every try."""
        if trouble != self.health.trouble:
            self._log(trouble)
        self.health.trouble = trouble


class Worker(threading.Thread, Generic[T]):
    """Drives one stage: takes what its buffer holds and works on it.

    A stage that raises is begun anew after a wait that doubles; what it was given is lost, and `lose` counts it.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[float], T | None],
        work: Callable[[T], None],
        *,
        lose: Callable[[T], None],
        begin_anew: Callable[[], None],
        stop: threading.Event,
        log: Callable[[str], None],
        clock: Clock,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._take, self._work = take, work
        self._lose, self._begin_anew = lose, begin_anew
        self._stopping = stop
        self._log = log
        self._clock = clock
        self._since_ns: int | None = None  # of the datum it works on
        self.failures = 0

    def run(self) -> None:
        """Work until the buffer is empty after it was told to stop."""
        wait_s, trouble = AGAIN_FIRST_S, None
        while True:
            item = self._take(IDLE_S)
            if item is None:
                if self._stopping.is_set():
                    return
                continue
            self._since_ns = self._clock.now_ns()
            try:
                self._work(item)
            except Exception as error:  # noqa: BLE001  the supervision boundary: one stage fails, the others go on
                self.failures += 1
                self._lose(item)
                if repr(error) != trouble:
                    self._log(f"{self.name} failed and is begun anew: {error!r}")
                trouble = repr(error)
                self._begin_anew()
                self._since_ns = None
                self._stopping.wait(wait_s * random.uniform(1.0 - JITTER, 1.0 + JITTER))
                wait_s = min(2 * wait_s, AGAIN_LAST_S)
            else:
                self._since_ns = None
                if trouble:
                    self._log(f"{self.name} works again")
                wait_s, trouble = AGAIN_FIRST_S, None

    def is_stuck(self, now_ns: int) -> bool:
        since_ns = self._since_ns
        return not self.is_alive() or (since_ns is not None and now_ns - since_ns > STUCK_NS)
