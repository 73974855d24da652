"""Intervals: neighbouring events with the same label, merged. Times are whole milliseconds from the start of the recording."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moodring.analysis.annotations.moments import EXPRESSION, TIERS, Moment, Moments, Result, Tier
from moodring.analysis.row import Row
from moodring.errors import CONTROL

MAX_HOLD_MS = 2000  # an event counts until the next event, and at most for this time
DEFAULT_STEP_MS = 200  # of a single event
NONCHARACTERS = re.compile("[\ufdd0-\ufdef\ufffe\uffff]")  # which XML does not allow


@dataclass(frozen=True, slots=True)
class Interval:
    """A label from `start_ms` until before `end_ms`, its mean probability over the events, and their number."""

    start_ms: int
    end_ms: int
    label: str
    probability: float
    events: int = 1

    @property
    def start_s(self) -> float:
        """The start in seconds."""
        return self.start_ms / 1000

    @property
    def end_s(self) -> float:
        """The end in seconds."""
        return self.end_ms / 1000


@dataclass(frozen=True, slots=True)
class Track:
    """One tier of one stream under the name that a file gives it. `holds_ms`: how long each moment counts."""

    name: str
    tier: Tier
    moments: Moments
    holds_ms: Sequence[int]
    intervals: Sequence[Interval]

    @property
    def end_ms(self) -> int:
        """The end of the last event."""
        return self.moments.times_ms[-1] + self.holds_ms[-1] if self.holds_ms else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the probabilities, in the order in which they first appear."""
        found: dict[str, None] = {}
        for moment in self.moments:
            if self.tier in moment.results:
                found |= dict.fromkeys(moment.results[self.tier].probabilities)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Annotations:
    """What is written to one file: the tracks of one recording, or of live streams on one clock.

    `clock` says in words what second 0 is.
    """

    name: str
    clock: str
    tracks: tuple[Track, ...]

    @property
    def end_ms(self) -> int:
        """The end of the last event."""
        return max((track.end_ms for track in self.tracks), default=0)


def moment_of_row(row: Row) -> Moment:
    """Return a row of an analysis as a moment."""
    results: dict[Tier, Result] = {}
    if row.label is not None and row.probabilities is not None:
        results[EXPRESSION] = Result(row.label, row.probabilities)
    for modality, view in (("face", row.face), ("speech", row.speech)):
        if view is not None and modality in row.modalities:
            results["face" if modality == "face" else "speech"] = Result(view.label, view.probabilities)
    return Moment(round(1000 * row.time_s), row.state, results)


def holds_ms(times_ms: Sequence[int]) -> list[int]:
    """Return for each of the ordered times how long its event counts: until the next, at most `MAX_HOLD_MS`.

    The last one counts as long as most others do. Of events with equal times only the last counts.
    """
    holds = [min(MAX_HOLD_MS, after - before) for before, after in itertools.pairwise(times_ms)]
    last = statistics.median_low([hold for hold in holds if hold] or [DEFAULT_STEP_MS])
    return [*holds, last] if times_ms else []


def intervals(moments: Iterable[Moment], holds: Iterable[int]) -> dict[Tier, list[Interval]]:
    """Return the intervals of each tier, in order and without overlap. The moments are in the order of their times.

    `holds` has the time in ms for which each moment counts. Times without a result, such as those without a face, are gaps
    between intervals.
    """
    merging = {tier: _Merging([]) for tier in TIERS}
    for moment, hold_ms in zip(moments, holds, strict=True):
        if hold_ms:
            for tier, result in moment.results.items():
                merging[tier].add(moment.time_ms, hold_ms, result)
    for one in merging.values():
        one.close()
    return {tier: one.merged for tier, one in merging.items()}


@dataclass(slots=True)
class _Merging:
    """The intervals of one tier so far, and the one that is not complete."""

    merged: list[Interval]
    start_ms: int = 0
    end_ms: int = 0
    label: str = ""
    total: float = 0.0
    events: int = 0

    def add(self, time_ms: int, hold_ms: int, result: Result) -> None:
        if result.label != self.label or time_ms != self.end_ms:
            self.close()
            self.start_ms, self.label, self.total, self.events = time_ms, result.label, 0.0, 0
        self.end_ms = time_ms + hold_ms
        self.total += result.probabilities[result.label]
        self.events += 1

    def close(self) -> None:
        if self.events:
            mean = self.total / self.events
            self.merged.append(Interval(self.start_ms, self.end_ms, self.label, mean, self.events))
        self.events = 0


def make_tracks(moments: Moments, stream: str = "") -> tuple[Track, ...]:
    """Return a track for each tier of one stream, whose name precedes that of the tier. The moments are in their order."""
    holds = holds_ms(moments.times_ms)
    found = intervals(moments, holds)
    return tuple(Track(plain(f"{stream} {tier}"), tier, moments, holds, of_tier) for tier, of_tier in found.items())


def annotate_rows(rows: Iterable[Row], name: str) -> Annotations:
    """Return the annotations of an analysis: seconds from the start of the recording."""
    moments = Moments()
    for row in rows:
        moments.append(moment_of_row(row))
    return Annotations(name, "start of the recording", make_tracks(moments.ordered()))


def plain(text: str) -> str:
    """Return a text that every format can hold: control characters and what is no character become spaces."""
    return " ".join(NONCHARACTERS.sub(" ", CONTROL.sub(" ", text)).split()) or "?"


def percent(probability: float) -> str:
    """Return a probability for people, such as 83 %."""
    return f"{100 * probability:.0f} %"
