"""One stream as a process knows it: what it reads, its pipeline, what it counted, and what it tells of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from moodring.clock import Clock
from moodring.pipeline import Pipeline
from moodring.run.sources import Sources
from moodring.telemetry import Telemetry, added


class Lossy(Protocol):
    """What reads for a pipeline, and counts what it read and lost."""

    @property
    def captured(self) -> Mapping[str, int]: ...

    @property
    def dropped(self) -> Mapping[str, int]: ...

    @property
    def losses(self) -> Mapping[str, int]: ...


class RunningStream:
    """A stream whose parts may be replaced while it runs: its counters go on from where they were."""

    def __init__(self, sources: Sources, pipeline: Pipeline, clock: Clock) -> None:
        self.sources = sources
        self.pipeline = pipeline
        self.readers: Sequence[Lossy] = ()
        self.telemetry = Telemetry(
            clock, counters=self.counters, dropped=self.dropped, level_dbfs=lambda: self.pipeline.level_dbfs
        )  # fmt: skip
        self._before: dict[str, dict[str, int]] = {"counters": {}, "dropped": {}, "losses": {}}

    def counters(self) -> dict[str, int]:
        counted = dataclasses.asdict(self.pipeline.counters)
        return added([self._before["counters"], counted, *(reader.captured for reader in self.readers)])

    def dropped(self) -> dict[str, int]:
        skipped = {"frames_above_rate": self.pipeline.counters.frames_skipped_rate}
        return added([self._before["dropped"], skipped, *(reader.dropped for reader in self.readers)])

    def losses(self) -> dict[str, int]:
        """What went wrong, in words."""
        return added([self._before["losses"], *(reader.losses for reader in self.readers)])

    def replace(self, sources: Sources, pipeline: Pipeline) -> None:
        """Go on with other parts, and readers to come; the old ones must have ended."""
        self._before = {"counters": self.counters(), "dropped": self.dropped(), "losses": self.losses()}
        self.sources, self.pipeline, self.readers = sources, pipeline, ()

    def summarise(self, log: Callable[[str], None]) -> None:
        """Close with a line that accounts for what was captured, and says what was missing."""
        c, dropped = self.counters(), self.dropped()
        log(
            f"{c['events']} events ({c['events_with_both']} from face and voice together); "
            f"{c.get('frames_captured', 0)} frames: {c['frames_tracked']} searched, "
            f"{dropped['frames_above_rate']} skipped above the face rate, {c['faces_read']} faces read; "
            f"{c['samples_heard'] / 16_000:.1f} s of sound: {c['windows_read']} windows read"
            + (f", {c['sound_gaps']} gaps" if c["sound_gaps"] else "")
        )
        for what, count in self.losses().items():
            if count:
                log(f"{count} {what}")
        if self.sources.video and c["frames_tracked"] and not c["faces_read"]:
            log("no face was found in any frame")
        if self.sources.audio and c["samples_heard"] and not c["windows_read"]:
            log("nobody was heard to speak")
