"""`moodring batch`: many files to tables."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moodring.analysis import tables
from moodring.analysis.batch import output, record
from moodring.analysis.batch.jobs import Job, Jobs, find_jobs, shard, table_text
from moodring.analysis.batch.parts import Parts
from moodring.analysis.batch.pool import Pool
from moodring.analysis.batch.progress import Progress
from moodring.analysis.batch.settings import Per, Settings, bundle_hash, used_configuration
from moodring.analysis.summary import counted
from moodring.labels import EventLabels
from moodring.process import log
from moodring.redaction import without_credentials
from moodring.run.options import RunOptions, load_bundle, read_configuration


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """The command line of `moodring batch`."""

    named: str
    out: Path
    config: Path | None = None
    settings: Sequence[str] = ()  # KEY=VALUE
    per: Per = "event"
    csv: bool = False
    workers: int | None = None
    shard: tuple[int, int] | None = None  # i of n, from 1
    seconds: float | None = None
    video_track: int | None = None
    audio_track: int | None = None
    frame_rate: float | None = None
    raw_audio: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The files of a batch, those of this shard, and where their parts and tables are."""

    jobs: Jobs
    mine: Sequence[Job]
    settings: Settings
    out: Path

    @property
    def parts(self) -> Parts:
        """The parts of these settings in the output folder."""
        return Parts(self.out / record.PARTS, self.settings.key())


def run(options: BatchOptions) -> int:
    """Analyse all files that are not done yet, and write the tables when all are; return 1 if some failed, otherwise 0.

    Raises UsageError before the first file is read, and another MoodringError or OSError if the work cannot go on.
    """
    tables.check_parquet()
    settings = read_settings(options)
    jobs = find_jobs(options.named)
    for note in jobs.notes:
        log(note)
    batch = Batch(jobs, shard(jobs.files, options.shard or (1, 1)), settings, options.out)
    started = record.open_folder(options.out, settings, {"input": without_credentials(table_text(options.named))})
    with record.locked(options.out, options.shard):
        try:
            _analyze(batch, options.workers or usable_cores())
            if _is_complete(batch):
                as_csv = options.csv or (options.out / "files.csv").exists()  # an old one would stay
                with record.writing_tables(options.out):
                    _write(batch, started, as_csv=as_csv)
        except KeyboardInterrupt:
            done = sum(path.exists() for path in map(batch.parts.path, batch.mine))
            log(f"{done} of {counted(len(batch.mine), 'file')} are done; the same command continues with the others")
            raise
    return int(_failed(batch) > 0)


def read_settings(options: BatchOptions) -> Settings:
    """Return the settings of a command line. Raises UsageError, ConfigError or BundleError."""
    run_options = RunOptions(config=options.config, settings=options.settings, raw_audio=options.raw_audio)
    _ = run_options.selection  # refuses a wrong --raw-audio
    config = read_configuration(run_options)
    bundle = load_bundle(config, run_options)
    names = ("per", "seconds", "video_track", "audio_track", "frame_rate", "raw_audio")
    return Settings(
        config=used_configuration(config),
        labels=EventLabels(bundle.labels, merge_calm=config.labels.merge_calm, bundle=str(bundle.path)).names,
        bundle_id=bundle.id,
        bundle_name=bundle.name,
        bundle_sha256=bundle_hash(bundle),
        **{name: getattr(options, name) for name in names},
    )


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _analyze(batch: Batch, workers: int) -> None:
    """Analyse the files that are not done."""
    parts = batch.parts
    pending = [job for job in batch.mine if not parts.is_done(job)]
    parts.clear(pending)
    done = len(batch.mine) - len(pending)
    if done:
        log(f"{done} of {counted(len(batch.mine), 'file')} are done already")
    if not pending:
        return
    pool = Pool(pending, batch.settings, parts, workers)
    progress = Progress(pending, done)
    with progress, contextlib.closing(pool.run()) as results:
        for result in results:
            if result is None:
                progress.tick()
            else:
                progress.add(*result)
    log(progress.text)


def _is_complete(batch: Batch) -> bool:
    """Return whether all shards are done. Says so if they are not."""
    missing = sum(not path.exists() for path in map(batch.parts.path, batch.jobs.files))
    if missing:
        log(f"{counted(missing, 'file')} of other shards are not done yet; the shard that ends last writes the tables")
    return not missing


def _failed(batch: Batch) -> int:
    """Return how many files of this shard failed."""
    return sum(part is None or part.row is None for part in map(batch.parts.head, batch.mine))


def _write(batch: Batch, started: Mapping[str, object], *, as_csv: bool) -> None:
    """Write the tables and the record of a batch of which all files are done."""
    out, parts, all_jobs = batch.out, batch.parts, batch.jobs.files
    for path in output.leftovers(out):
        path.unlink(missing_ok=True)
    unknown = parts.unknown(all_jobs)
    if unknown:
        log(f"the tables leave out {counted(unknown, 'file')} of an earlier start that the input does not name now")
    totals = output.write_tables(out, batch.jobs, parts, batch.settings, as_csv=as_csv)
    record.finish(out, started, {"result": dataclasses.asdict(totals)})
    names = ", ".join(output.table_names(batch.settings.per, as_csv=as_csv))
    log(f"{out}: {counted(totals.files, 'file')}, {counted(totals.rows, 'row')} ({names})")
    if totals.failed:
        log(f"{totals.failed} of {counted(len(all_jobs), 'file')} could not be analysed; {out / 'failures.csv'} says why")
