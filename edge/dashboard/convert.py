"""Event files to annotation files: `moodring convert EVENTS.jsonl --to FORMAT`."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moodring.analysis.annotations.files import (
    SUFFIXES,
    AnnotationFormat,
    check_absent,
    check_library,
    chosen,
    files_of,
    write_annotations,
)
from moodring.analysis.annotations.intervals import Annotations, make_tracks, plain
from moodring.analysis.annotations.moments import EXPRESSION, Moment, Moments, Result, Tier
from moodring.analysis.summary import counted
from moodring.dashboard.recording import MAX_REPLAY_TIME_MS, RecordedEvent, Skipped, read_events
from moodring.errors import EventError, UsageError, printable
from moodring.process import log
from moodring.publish.cloudevents import stream_name

MAX_NAME_CHARS = 100  # of a recording in a file name


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """The command line of `moodring convert`."""

    events: Path
    to: AnnotationFormat
    out: Path | None = None
    video: Path | None = None
    tiers: Sequence[Tier] | None = None
    overwrite: bool = False


@dataclass(slots=True)
class Timeline:
    """The events of one recording, or of all live streams: those of each stream in the order of the file."""

    name: str
    is_live: bool
    streams: dict[str, Moments] = field(default_factory=dict)
    numbers: dict[str, set[int]] = field(default_factory=dict)  # of the events of each source
    repeated: int = 0
    reordered: int = 0

    def add(self, event: RecordedEvent) -> None:
        """Add an emotion event, unless it was added before."""
        source, seq = event.document["source"], event.document["data"]["seq"]
        numbers = self.numbers.setdefault(source, set())
        if seq in numbers:
            self.repeated += 1
            return
        numbers.add(seq)
        moments = self.streams.setdefault(stream_name(source), Moments())
        self.reordered += bool(moments) and event.time_ms <= moments.times_ms[-1]
        moments.append(_moment(event))

    @property
    def events(self) -> int:
        """The number of events."""
        return sum(map(len, self.streams.values()))

    def annotations(self) -> Annotations:
        """Return the tracks in seconds from the start of the recording, or from the first live event."""
        start_ms = min(min(moments.times_ms) for moments in self.streams.values()) if self.is_live else 0
        tracks = [
            track
            for name, moments in self.streams.items()
            for track in make_tracks(moments.ordered(start_ms), name if len(self.streams) > 1 else "")
        ]
        start = dt.datetime.fromtimestamp(start_ms / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Annotations(self.name, f"first event, at {start}" if self.is_live else "start of the recording", tuple(tracks))

    def notes(self) -> list[str]:
        """Return what was left out or changed, in words."""
        notes = [f"{counted(self.repeated, 'event')} of {self.name} with the id of another left out"] if self.repeated else []
        if self.reordered:
            notes.append(f"{counted(self.reordered, 'event')} of {self.name} not later than the one before: sorted by time")
        return notes


def _moment(event: RecordedEvent) -> Moment:
    data: dict[str, Any] = event.document["data"]
    results: dict[Tier, Result] = {}
    if data["label"] is not None:
        results[EXPRESSION] = Result(data["label"], data["probabilities"])
    tiers: tuple[Tier, ...] = ("face", "speech")
    for tier in tiers:
        if data[tier] is not None and tier in data["modalities"]:
            results[tier] = Result(data[tier]["label"], data[tier]["probabilities"])
    return Moment(event.time_ms, data["state"], results)


def convert(options: ConvertOptions) -> int:
    """Convert an event file and return the exit code.

    Raises UsageError if it cannot be read, if an output exists or cannot hold the events, EventError without emotion events.
    """
    check_library(options.to)
    skipped = Skipped()
    timelines = read_timelines(read_events(options.events, skipped))
    if not timelines:
        raise EventError("; ".join(filter(None, [f"{options.events} contains no emotion event", str(skipped)])))
    paths = _paths(options, timelines)
    for path in paths:
        remedy = "remove it, name another file with --out, or replace it with --overwrite"
        check_absent(files_of(path, options.to), overwrite=options.overwrite, remedy=remedy)
    for path, timeline in zip(paths, timelines, strict=True):
        annotations = chosen(timeline.annotations(), options.to, options.tiers)
        written = write_annotations(
            path, annotations, options.to, tiers=options.tiers, media=options.video, overwrite=options.overwrite
        )
        names = " and ".join(printable(str(one)) for one in written)
        count = sum(len(track.intervals) for track in annotations.tracks)
        print(
            f"wrote {names}: {counted(count, 'interval')} from {counted(timeline.events, 'event')}; "
            f"second 0 is the {annotations.clock}",
            file=sys.stderr,
        )
        for note in timeline.notes():
            log(f"{options.events}: {note}")
    if skipped.counts:
        log(f"{options.events}: {skipped}")
    return 0


def read_timelines(events: Iterable[RecordedEvent]) -> list[Timeline]:
    """Return a timeline for each recording, and one for all live streams, in the order of their first events."""
    timelines: dict[str, Timeline] = {}
    for event in events:
        if event.is_status:
            continue
        source = event.document["source"]
        is_live = event.time_ms >= MAX_REPLAY_TIME_MS
        key = "" if is_live else source
        if key not in timelines:
            timelines[key] = Timeline("live" if is_live else plain(stream_name(source).rpartition("/")[2]), is_live)
        timelines[key].add(event)
    return list(timelines.values())


def _paths(options: ConvertOptions, timelines: Sequence[Timeline]) -> list[Path]:
    """Return the file of each timeline: beside the event file or the video, or in the folder `out`."""
    suffix, named = SUFFIXES[options.to], [timeline.name for timeline in timelines]
    listed = ", ".join(map(printable, named))
    base = options.video or options.events
    if options.video is not None and not options.video.is_file():
        raise UsageError(f"{options.video}: no such file; name the recording of the events with --video")
    if options.video is not None and len(timelines) > 1:
        raise UsageError(f"{options.events} has events of several recordings ({listed}); --video is for one")
    folder = options.out if options.out is not None and options.out.is_dir() else None
    if len(timelines) == 1:
        return [(folder or base.parent) / f"{base.stem}{suffix}"] if folder or not options.out else [options.out]
    if options.out is not None and folder is None:
        raise UsageError(f"{options.events} has events of several recordings ({listed}); name a folder that exists with --out")
    return [(folder or base.parent) / f"{base.stem}.{name}{suffix}" for name in _unique(named)]


def _unique(names: Iterable[str]) -> list[str]:
    """Return names for files, of which no two are equal: the second `a` becomes `a-2`."""
    found: dict[str, None] = {}
    for name in names:
        safe = name.replace("/", "_")[:MAX_NAME_CHARS]
        number = 1
        while (unique := safe if number == 1 else f"{safe}-{number}") in found:
            number += 1
        found[unique] = None
    return list(found)
