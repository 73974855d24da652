"""The threads of a live stream: a Reader reads and reopens one device, a Worker drives and restarts one stage."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from moodring.capture.base import LiveAudioSource, LiveVideoSource
from moodring.clock import NS_PER_S, Clock
from moodring.errors import DeviceError
from moodring.types import DeviceState

T = TypeVar("T")

LOST_AFTER_NS = NS_PER_S  # a device without fresh data for this long is lost, whatever its library reports
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.25, 2.0
JITTER = 0.2  # relative, so that many machines do not reconnect to one server at the same moment
MUTE_POLL_S = 0.1
STOP_POLL_S = 1.0
STUCK_NS = 20 * NS_PER_S  # a thread that neither works nor fails for this long hangs


@dataclass(slots=True)
class DeviceHealth:
    """State of one live device. A device is ok while its last fresh datum is at most `LOST_AFTER_NS` old.

    A camera is frozen if all its frames of the last `frozen_after_ns` are equal: those of a working sensor differ by its noise.
    """

    name: str
    last_ns: int | None = None
    reopened: int = 0
    trouble: str | None = None
    muted: bool = False
    rejected: str | None = None  # why its data is of no use: the reader reopens it
    alive_ns: int = 0  # when its reader was last active
    opened_once: bool = False
    intact_ns: int | None = None  # time of its last intact datum; None after it was rejected
    frozen_after_ns: int | None = None
    same_ns: tuple[int, int] = (0, 0)  # times of the first and the last of the frames that are equal

    def state(self, now_ns: int) -> DeviceState:
        if self.muted:
            return "muted"
        if self.last_ns is None or now_ns - self.last_ns > LOST_AFTER_NS:
            return "lost"
        return "frozen" if self.is_frozen else "ok"

    @property
    def is_frozen(self) -> bool:
        """Whether the frames have been equal for too long."""
        return self.frozen_after_ns is not None and self.same_ns[1] - self.same_ns[0] >= self.frozen_after_ns

    def accept(self, time_ns: int, *, is_same: bool) -> None:
        """Note an intact frame, and whether it equals the one before."""
        self.intact_ns = time_ns
        self.same_ns = (self.same_ns[0] if is_same else time_ns, time_ns)

    def note_damaged(self, time_ns: int, why: str) -> None:
        """Tolerate a damaged frame now and then; reject a device that has sent no intact one for `LOST_AFTER_NS`."""
        if self.intact_ns is None or time_ns - self.intact_ns > LOST_AFTER_NS:
            self.reject(why)

    def reject(self, why: str) -> None:
        """Mark the device as lost and have it reopened: its data is of no use."""
        self.last_ns = self.intact_ns = None
        self.rejected = why


class Reader(threading.Thread):
    """Reads one device until `stop` is set. A device that fails is closed and reopened, with back-off.

    `step` reads one datum and returns its capture time in ns and a function that enqueues it. A muted device is closed, so that
    indicators of its use (a light, the sound server) are correct.
    """

    def __init__(
        self,
        device: LiveVideoSource | LiveAudioSource,
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
        self._read_ns: int | None = None  # time of the last read since the device was opened
        self.health = DeviceHealth(device.name, alive_ns=clock.now_ns())

    def run(self) -> None:
        wait_s = BACKOFF_MIN_S
        while not self._stopping.is_set():
            self.health.alive_ns = self._clock.now_ns()
            if self.health.muted:
                self._device.close()
                self._stopping.wait(MUTE_POLL_S)
                continue
            try:
                self._open()
                while self._read_next():
                    wait_s = BACKOFF_MIN_S
            except DeviceError as error:
                self._log_trouble(str(error))
            except Exception as error:  # noqa: BLE001  the supervision boundary: a bug in reading one device ends no other
                self._log_trouble(f"a bug in reading {self._device.name}: {error!r}")
            else:
                continue
            self._device.close()
            self._stopping.wait(wait_s * random.uniform(1.0 - JITTER, 1.0 + JITTER))
            wait_s = min(2 * wait_s, BACKOFF_MAX_S)
        self._device.close()

    def _open(self) -> None:
        self._device.open()
        self.health.reopened += self.health.opened_once
        self.health.opened_once = True
        if self.health.rejected is None:
            self.health.intact_ns = self._clock.now_ns()
        self.health.rejected = None
        self._read_ns = None

    def _read_next(self) -> bool:
        """Read one datum; return whether to continue. Raises DeviceError where the device must be reopened."""
        if self._stopping.is_set() or self.health.muted:
            return False
        captured_ns, enqueue = self._step()
        read_ns = self._clock.now_ns()
        if self._read_ns is not None and read_ns - self._read_ns > LOST_AFTER_NS:
            raise DeviceError(f"{self._device.name} sent nothing for over a second; its buffered data may be stale")
        self._read_ns = read_ns
        enqueue()
        if self.health.rejected:
            raise DeviceError(self.health.rejected)
        self.health.last_ns = self.health.alive_ns = captured_ns
        if self.health.trouble:
            self._log(f"{self._device.name}: reconnected")
            self.health.trouble = None
        return True

    def _log_trouble(self, trouble: str) -> None:
        """Log a failure when it begins, not at every retry."""
        if trouble != self.health.trouble:
            self._log(trouble)
        self.health.trouble = trouble


class Worker(threading.Thread, Generic[T]):
    """Drives one stage: takes items from its buffer and processes them.

    After an exception the item is dropped (`on_drop` counts it) and the stage restarts (`on_restart`), with back-off.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[float], T | None],
        work: Callable[[T], None],
        *,
        on_drop: Callable[[T], None],
        on_restart: Callable[[], None],
        stop: threading.Event,
        log: Callable[[str], None],
        clock: Clock,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._take, self._work = take, work
        self._on_drop, self._on_restart = on_drop, on_restart
        self._stopping = stop
        self._log = log
        self._clock = clock
        self._since_ns: int | None = None  # when work on the present item began
        self.failures = 0

    def run(self) -> None:
        """Process items until the buffer is empty and `stop` is set."""
        wait_s, trouble = BACKOFF_MIN_S, None
        while True:
            item = self._take(STOP_POLL_S)
            if item is None:
                if self._stopping.is_set():
                    return
                continue
            self._since_ns = self._clock.now_ns()
            try:
                self._work(item)
            except Exception as error:  # noqa: BLE001  the supervision boundary: one stage fails, the others go on
                self.failures += 1
                self._on_drop(item)
                if repr(error) != trouble:
                    self._log(f"{self.name} failed: {error!r}; the stage restarts")
                trouble = repr(error)
                self._on_restart()
                self._since_ns = None
                self._stopping.wait(wait_s * random.uniform(1.0 - JITTER, 1.0 + JITTER))
                wait_s = min(2 * wait_s, BACKOFF_MAX_S)
            else:
                self._since_ns = None
                if trouble:
                    self._log(f"{self.name} recovered")
                wait_s, trouble = BACKOFF_MIN_S, None

    def is_stuck(self, now_ns: int) -> bool:
        """Return whether the thread has died, or has worked on one item for longer than `STUCK_NS`."""
        since_ns = self._since_ns
        return not self.is_alive() or (since_ns is not None and now_ns - since_ns > STUCK_NS)
