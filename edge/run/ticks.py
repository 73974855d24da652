"""The tick loop of a process: every stream publishes an event at every tick, in the main thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from moodring.clock import NS_PER_S, Clock
from moodring.errors import MoodringError
from moodring.run.stream import Stream
from moodring.types import EmotionEvent

JOIN_S = 1.5  # for all threads together


class TickSchedule:
    """When the next tick is due. Ticks that are overdue are skipped, and counted."""

    def __init__(self, clock: Clock, tick_ns: int) -> None:
        self.tick_ns = tick_ns
        self.due_ns = clock.now_ns() + tick_ns
        self.skipped = 0
        self._clock = clock

    def advance(self) -> None:
        """Set the time of the next tick."""
        overdue = max(0, self._clock.now_ns() - self.due_ns) // self.tick_ns
        self.skipped += overdue
        self.due_ns += self.tick_ns * (1 + overdue)


class TickLoop:
    """The live streams of a process by name, and the loop that ticks them."""

    def __init__(self, streams: Mapping[str, Stream], clock: Clock) -> None:
        self.streams = dict(streams)
        self.ticks_skipped = 0
        self._clock = clock

    def run(
        self,
        publish: Callable[[str, EmotionEvent], None],
        *,
        tick_ns: int,
        seconds: float | None = None,
        between: Callable[[], int] | None = None,
    ) -> None:
        """Publish an event of each stream at every tick, for `seconds` or until the caller is interrupted.

        `between` runs between two ticks, may add and remove streams, and returns the next tick interval in ns. Raises
        MoodringError where a thread of a stream has died.
        """
        schedule = TickSchedule(self._clock, tick_ns)
        end_ns = None if seconds is None else schedule.due_ns - tick_ns + int(seconds * NS_PER_S)
        try:
            for stream in self.streams.values():
                stream.start()
            while end_ns is None or schedule.due_ns <= end_ns:
                self._clock.sleep_until_ns(schedule.due_ns)
                for name, stream in self.streams.items():
                    event = tick_alive(stream)
                    if event is not None:
                        publish(name, event)
                if between is not None:
                    schedule.tick_ns = between()
                schedule.advance()
                self.ticks_skipped = schedule.skipped
        finally:
            stop_streams(self.streams.values())

    def add(self, name: str, stream: Stream) -> None:
        """Start a stream and tick it from now on."""
        self.streams[name] = stream
        stream.start()

    def remove(self, names: Collection[str]) -> None:
        """Stop streams. Their counters stay valid."""
        stop_streams([self.streams.pop(name) for name in names])

    def toggle_mute(self, device: str) -> bool:
        """Mute "camera" or "microphone" in all streams, or unmute it where all are muted; return whether it is muted now."""
        having = [stream for stream in self.streams.values() if stream.has(device)]
        muted = any(device not in stream.muted for stream in having)
        self.mute(device, muted)
        return muted

    def mute(self, device: str, muted: bool) -> None:
        """Mute or unmute "camera" or "microphone" in all streams that have one."""
        for stream in self.streams.values():
            stream.mute(device, muted)

    def makes_progress(self) -> bool:
        """Return whether every stream makes progress."""
        return all(stream.makes_progress() for stream in self.streams.values())


def tick_alive(stream: Stream) -> EmotionEvent | None:
    """Return the event of a stream for now (`Stream.tick`). Raises MoodringError where one of its threads has died."""
    dead = stream.dead_thread()
    if dead is not None:
        raise MoodringError(f"the thread {dead!r} died; the log above may name the cause")
    return stream.tick()


def stop_streams(streams: Collection[Stream]) -> None:
    """Stop all streams at the same time, so that it takes no longer than the slowest."""
    for stream in streams:
        stream.stop()
    deadline_s = time.monotonic() + JOIN_S
    for stream in streams:
        stream.join(deadline_s)
