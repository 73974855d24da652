"""`moodring analyze`: images, recordings and sounds to tables."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from moodring.analysis import tables
from moodring.analysis.annotations.beside import AnnotationFiles
from moodring.analysis.annotations.files import AnnotationFormat
from moodring.analysis.inputs import expand
from moodring.analysis.models import Models, load_models
from moodring.analysis.opencv import OneThread
from moodring.analysis.output import OUTPUTS, Failure, Format, Output, Per
from moodring.analysis.reading import Reading, published_labels
from moodring.analysis.summary import counted
from moodring.errors import BundleError, MediaError, MoodringError, UsageError, printable
from moodring.evaluation.engine import progress
from moodring.process import log
from moodring.run.options import RunOptions, read_configuration, with_place


@dataclass(frozen=True, slots=True)
class AnalyzeOptions:
    """The command line of `moodring analyze`."""

    paths: Sequence[str]
    config: Path | None = None
    settings: Sequence[str] = ()  # KEY=VALUE
    format: Format = "table"
    per: Per | None = None
    out: Path | None = None
    seconds: float | None = None
    video_track: int | None = None
    audio_track: int | None = None
    frame_rate: float | None = None
    raw_audio: str | None = None
    subtitles: Sequence[AnnotationFormat] = ()
    elan: bool = False
    textgrid: bool = False
    bids: bool = False
    xdf: bool = False
    annotations: Path | None = None  # folder of the annotation files; beside each recording without it

    @property
    def annotation_formats(self) -> tuple[AnnotationFormat, ...]:
        """The annotation files to write for each recording."""
        flags: tuple[tuple[AnnotationFormat, bool], ...] = (
            ("elan", self.elan), ("textgrid", self.textgrid), ("bids", self.bids), ("xdf", self.xdf),
        )  # fmt: skip
        return (*dict.fromkeys(self.subtitles), *(kind for kind, is_asked in flags if is_asked))


def run(options: AnalyzeOptions) -> int:
    """Analyse all inputs and write the table; return the exit code: that of the worst failure.

    Inputs that fail are reported and left out. Raises UsageError or another MoodringError before the first input is read.
    """
    run_options = RunOptions(
        config=options.config,
        settings=options.settings,
        seconds=options.seconds,
        video_track=options.video_track,
        audio_track=options.audio_track,
        frame_rate=options.frame_rate,
        raw_audio=options.raw_audio,
    )
    _ = run_options.selection  # refuses a wrong --raw-audio
    _check_output(options)
    config = read_configuration(run_options)
    try:
        models = load_models(config)
    except BundleError as error:
        raise with_place(error, run_options, "bundle") from error
    per: Per = options.per or ("file" if options.format == "table" else "event")
    failures = _Failures()
    inputs = _inputs(options.paths, failures)
    files = AnnotationFiles(options.annotation_formats, options.annotations, inputs)
    with OneThread(), _open(options.out) as file:
        output = OUTPUTS[options.format](file, published_labels(models.config, models), per)
        output.begin()
        count = len(inputs) + len(failures.listed)
        for path in _shown(inputs, options):
            _analyze(replace(run_options, source=path), models, output, files, failures)
        output.end(failures.listed)
    if failures.listed and count > 1:
        log(f"{len(failures.listed)} of {counted(count, 'input')} could not be analysed")
    return failures.exit_code


class _Failures:
    """The inputs that failed. Each is reported when it fails."""

    def __init__(self) -> None:
        self.listed: list[Failure] = []
        self.exit_code = 0

    def add(self, path: str, error: MoodringError) -> None:
        self.listed.append(Failure(printable(path), str(error)))
        self.exit_code = max(self.exit_code, error.exit_code)
        log(str(error))


def _inputs(named: Iterable[str], failures: _Failures) -> list[str]:
    """Return the files that the arguments name, each once."""
    found: dict[str, None] = {}
    for name in named:
        try:
            found |= dict.fromkeys(expand(name))
        except UsageError as error:
            failures.add(name, error)
    return list(found)


def _shown(inputs: Sequence[str], options: AnalyzeOptions) -> Iterator[str]:
    """Yield the inputs, with a progress bar if several are read while nothing is printed."""
    prints = options.out is None and (options.format == "table" or sys.stdout.isatty())
    yield from inputs if prints or len(inputs) < 2 else progress(inputs, "inputs")


def _analyze(options: RunOptions, models: Models, output: Output, files: AnnotationFiles, failures: _Failures) -> None:
    """Analyse one input and write it whole, or report why it failed."""
    source = options.source or ""
    try:
        files.check(source)
        with Reading(options, models.config, models) as reading:
            analysis = reading.analysis()
    except (MediaError, UsageError) as error:
        failures.add(source, error)
        return
    output.add(analysis)
    try:
        files.write(source, analysis)
    except MoodringError as error:
        failures.add(source, error)


def _check_output(options: AnalyzeOptions) -> None:
    if options.out is not None and options.out.exists():
        raise UsageError(f"{options.out} exists and stays as it is; remove it or name another file with --out")
    if options.out is not None and not options.out.parent.is_dir():
        raise UsageError(f"{options.out}: the folder {options.out.parent} does not exist; make it first")
    if options.annotations is not None and not options.annotation_formats:
        raise UsageError("--annotations needs a format: --subtitles vtt, --elan, --textgrid, --bids or --xdf")
    if options.format == "parquet" and options.out is None and sys.stdout.isatty():
        raise UsageError("Parquet is a binary format: name a file with --out")


@contextlib.contextmanager
def _open(out: Path | None) -> Iterator[IO[bytes]]:
    if out is not None:
        with tables.private_file(out) as file:
            yield file
        return
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
