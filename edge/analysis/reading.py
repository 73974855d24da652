"""One input, read to rows as it is decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Self

from numpy.typing import NDArray

from moodring.analysis.arrays import audio_blocks
from moodring.analysis.image import image_rows
from moodring.analysis.models import Models
from moodring.analysis.result import Analysis
from moodring.analysis.row import Row, row_of
from moodring.analysis.summary import Kind
from moodring.clock import NS_PER_S
from moodring.config import Config
from moodring.errors import MediaError, UsageError
from moodring.labels import EventLabels
from moodring.pipeline import Pipeline
from moodring.run.counters import findings
from moodring.run.options import RunOptions, select_sources
from moodring.run.replay import Recording, Ticks
from moodring.run.sources import Sources
from moodring.telemetry import sum_counts
from moodring.types import U8, EventIdentity

IDENTITY = EventIdentity("/moodring/analysis", lambda _: "")  # rows have neither a source nor a date


class Reading:
    """Reads one recording, sound or image: iterate over `rows()` once; the attributes are complete at its end.

    Nothing is kept of the rows, so a recording of any length needs the same memory. The networks are those of `models`; a
    process that reads many files loads them once, and can also reuse a `pipeline` of the same configuration: it is reset first.
    `only` sound leaves video out, `only` image refuses a recording. Opening raises UsageError or MediaError, and so does
    reading. `counts` are what was read, processed and dropped, by the counter names of status events.
    """

    def __init__(
        self,
        options: RunOptions,
        config: Config,
        models: Models,
        only: Kind | None = None,
        pipeline: Pipeline | None = None,
    ) -> None:
        self.kind: Kind = "video"
        self.duration_s = 0.0
        self.frame_wh: tuple[int, int] | None = None
        self.missing: list[str] = []
        self.counts: dict[str, int] = {}
        self._pipeline = pipeline
        self._options, self._config, self._models, self._only = options, config, models, only
        (self._sources,) = select_sources(options, config, models.bundle, self.missing.append).values()
        self.source = self._sources.title
        if only == "sound":
            self._sources = dataclasses.replace(self._sources, video=None)
            if self._sources.audio is None:
                raise MediaError(f"{self.source} contains no sound; name another file")
        self._recording = Recording(self._sources, keep_image=True)
        if self._sources.video is None:
            self.kind = "sound"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._recording.close()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the rows, in the order of their probabilities."""
        return published_labels(self._config, self._models)

    def rows(self) -> Iterator[Row]:
        """Yield the rows: one for each event of a recording, or one for each face of an image, largest first."""
        image = self._recording.image()
        if image is not None:
            self.kind, self.frame_wh = "image", (image.shape[1], image.shape[0])
            self._recording.check_used()
            yield from image_rows(image, self._config, self._models)
            self.missing += self._recording.notes
            self.counts = self._read_counts()
            return
        if self._only == "image":
            raise UsageError(f"{self.source} is a recording, not an image; use analyze")
        pipeline = self._pipeline or open_pipeline(self._config, self._models)
        pipeline.reset()
        for time_ns, event in self._recording.replay(pipeline, self._config, seconds=self._options.seconds):
            self.frame_wh = event.frame_wh or self.frame_wh
            yield row_of(event, time_ns / NS_PER_S)
        self.duration_s = self._recording.end_ns / NS_PER_S
        losses = sum_counts(reader.counters.losses for reader in self._recording.readers)
        self.missing += findings(asdict(pipeline.counters), losses, self._recording.notes, self._sources)
        if self.kind == "video" and self._sources.audio is None:
            self.missing.append("the recording has no sound")
        self.counts = sum_counts([asdict(pipeline.counters), self._read_counts()])

    def _read_counts(self) -> dict[str, int]:
        readers = [reader.counters for reader in self._recording.readers]
        return sum_counts(counts for reader in readers for counts in (reader.captured, reader.dropped))

    def analysis(self) -> Analysis:
        """Read all rows and return them as an analysis."""
        rows = tuple(self.rows())
        return Analysis(
            source=self.source,
            kind=self.kind,
            rows=rows,
            labels=self.labels,
            duration_s=self.duration_s,
            bundle_id=self._models.bundle.id,
            frame_wh=self.frame_wh,
            missing=tuple(self.missing),
        )


def open_pipeline(config: Config, models: Models) -> Pipeline:
    """Return a pipeline whose events become rows."""
    return Pipeline(config, models.bundle, IDENTITY, models.networks)


def published_labels(config: Config, models: Models) -> tuple[str, ...]:
    """Return the labels that rows have with this configuration."""
    bundle = models.bundle
    return EventLabels(bundle.labels, merge_calm=config.labels.merge_calm, bundle=str(bundle.path)).names


def analyze_grey(grey: U8, source: str, config: Config, models: Models) -> Analysis:
    """Return the faces of an image in memory, uint8 [H, W]."""
    return Analysis(
        source=source,
        kind="image",
        rows=tuple(image_rows(grey, config, models)),
        labels=published_labels(config, models),
        duration_s=0.0,
        bundle_id=models.bundle.id,
        frame_wh=(grey.shape[1], grey.shape[0]),
    )


def analyze_samples(samples: NDArray[Any], rate_hz: int, source: str, config: Config, models: Models) -> Analysis:
    """Return the rows of sound in memory, checked samples [N, channels]."""
    pipeline = open_pipeline(config, models)
    ticks = Ticks(pipeline, int(NS_PER_S / config.fusion.rate_hz), {"camera": "absent", "microphone": "ok"})
    events = ticks.run(None, audio_blocks(samples, rate_hz))
    rows: Sequence[Row] = [row_of(event, time_ns / NS_PER_S) for time_ns, event in events]
    return Analysis(
        source=source,
        kind="sound",
        rows=tuple(rows),
        labels=pipeline.labels,
        duration_s=ticks.arrived_ns / NS_PER_S,
        bundle_id=models.bundle.id,
        missing=tuple(findings(asdict(pipeline.counters), {}, [], Sources(None, source, live=False, title=source))),
    )
