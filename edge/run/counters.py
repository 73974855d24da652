"""Counters and telemetry of one stream. They continue when its pipeline and devices are replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from moodring.clock import Clock, StageTimer
from moodring.pipeline import Pipeline
from moodring.run.sources import Sources
from moodring.telemetry import HistogramTimer, Telemetry, sum_counts
from moodring.types import SAMPLE_RATE_HZ

# Makes the timer of one stream's stages from its telemetry and the clock.
TimerFactory = Callable[[Telemetry, Clock], StageTimer]


class CountedReader(Protocol):
    """A reader of devices or files that counts what it captured and dropped."""

    @property
    def captured(self) -> Mapping[str, int]: ...

    @property
    def dropped(self) -> Mapping[str, int]: ...

    @property
    def losses(self) -> Mapping[str, int]: ...


class StreamCounters:
    """Adds up the counters of a stream's pipelines and readers. `attach` names those in use, now and after each reload.

    `timer` times the stages of every pipeline of this stream. `make_timer` makes it.
    """

    def __init__(self, clock: Clock, make_timer: TimerFactory = HistogramTimer) -> None:
        self.readers: Sequence[CountedReader] = ()
        self.notes: Sequence[str] = ()  # what the summary also says, such as a track that was left out
        self.telemetry = Telemetry(
            clock, counters=self.counters, dropped=self.dropped, level_dbfs=lambda: self.pipeline.level_dbfs
        )  # fmt: skip
        self.timer = make_timer(self.telemetry, clock)
        self.sources: Sources
        self.pipeline: Pipeline
        self._before: dict[str, dict[str, int]] = {"counters": {}, "dropped": {}, "losses": {}}

    @property
    def next_seq(self) -> int:
        """The sequence number of the stream's next event."""
        return self.pipeline.next_seq if hasattr(self, "pipeline") else 0

    def attach(self, sources: Sources, pipeline: Pipeline, readers: Sequence[CountedReader] = ()) -> None:
        """Count these parts from now on, on top of the counts so far. Earlier parts must have ended."""
        if hasattr(self, "pipeline"):
            self._before = {"counters": self.counters(), "dropped": self.dropped(), "losses": self.losses()}
        self.sources, self.pipeline, self.readers = sources, pipeline, readers

    def counters(self) -> dict[str, int]:
        """Return what was captured and processed, by name."""
        counted = dataclasses.asdict(self.pipeline.counters)
        return sum_counts([self._before["counters"], counted, *(reader.captured for reader in self.readers)])

    def dropped(self) -> dict[str, int]:
        """Return what was captured and not processed, by reason."""
        skipped = {"frames_above_rate": self.pipeline.counters.frames_skipped_rate}
        return sum_counts([self._before["dropped"], skipped, *(reader.dropped for reader in self.readers)])

    def losses(self) -> dict[str, int]:
        """Return what went wrong, by a description in words."""
        return sum_counts([self._before["losses"], *(reader.losses for reader in self.readers)])

    def log_summary(self, log: Callable[[str], None]) -> None:
        """Log one line that accounts for all captured data, then one for each of the findings."""
        c, dropped = self.counters(), self.dropped()
        log(
            f"{c['events']} events ({c['events_with_both']} from face and voice together); "
            f"{c.get('frames_captured', 0)} frames: {c['frames_tracked']} searched, "
            f"{dropped['frames_above_rate']} skipped above the face rate, {c['faces_read']} faces classified; "
            f"{c['samples_heard'] / SAMPLE_RATE_HZ:.1f} s of sound: {c['windows_read']} windows classified"
            + (f", {c['sound_gaps']} gaps" if c["sound_gaps"] else "")
        )
        for finding in findings(c, self.losses(), self.notes, self.sources):
            log(finding)


def findings(counters: Mapping[str, int], losses: Mapping[str, int], notes: Sequence[str], sources: Sources) -> list[str]:
    """Return what was lost or missing, in words: each loss, each note, and each modality without results."""
    found = [f"{count} {what}" for what, count in losses.items() if count] + list(notes)
    if sources.video and counters["frames_tracked"] and not counters["faces_read"]:
        found.append("no face was found in any frame")
    if sources.audio and counters["samples_heard"] and not counters["windows_read"]:
        found.append("no speech was found in the sound")
    return found


def ended_normally(raised: type[BaseException] | None) -> bool:
    """Return whether a summary is wanted: after a failure, only its own message is printed."""
    return raised is None or issubclass(raised, KeyboardInterrupt)
