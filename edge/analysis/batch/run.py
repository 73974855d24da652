"""`moodring batch`: many files to tables."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moodring.analysis import tables
from moodring.analysis.batch import output, record
from moodring.analysis.batch.jobs import Job, Jobs, find_jobs, shard
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


def run(options: BatchOptions) -> int:
    """Analyse all files that are not done yet, and write the tables when all are; return 1 if some failed, otherwise 0.

    Raises UsageError before the first file is read, and another MoodringError or OSError if the work cannot go on.
    """
    settings = read_settings(options)
    jobs = find_jobs(options.named)
    tables.check_parquet()
    mine = list(jobs.files) if options.shard is None else shard(jobs.files, options.shard)
    for note in jobs.notes:
        log(note)
    given = {"input": without_credentials(options.named)}
    started = record.open_folder(options.out, settings, given)
    parts = Parts(options.out / record.PARTS, settings.key())
    with record.locked(options.out, options.shard):
        _analyze(mine, parts, settings, options)
        return _finish(options, jobs, mine, parts, settings, started)


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


def _analyze(mine: Sequence[Job], parts: Parts, settings: Settings, options: BatchOptions) -> None:
    """Analyse the files that are not done. Says how to go on if it is interrupted."""
    pending = [job for job in mine if not parts.is_done(job)]
    parts.clear(pending)
    done = len(mine) - len(pending)
    if done:
        log(f"{done} of {counted(len(mine), 'file')} are done already")
    if not pending:
        return
    pool = Pool(pending, settings, parts, options.workers or usable_cores())
    progress = Progress(pending, done)
    try:
        with progress, contextlib.closing(pool.run()) as finished_jobs:
            for finished in finished_jobs:
                if finished is None:
                    progress.tick()
                else:
                    progress.add(*finished)
    except KeyboardInterrupt:
        log(f"{progress.done} of {counted(len(mine), 'file')} are done; the same command continues with the others")
        raise
    log(progress.text)


def _finish(
    options: BatchOptions, jobs: Jobs, mine: Sequence[Job], parts: Parts, settings: Settings, started: dict[str, object]
) -> int:
    """Write the tables if all files of all shards are done; return the exit code."""
    failed = sum(head is None or head.row is None for head in map(parts.head, mine))
    missing = sum(not parts.path(job).exists() for job in jobs.files)
    if missing:
        log(f"{counted(missing, 'file')} of other shards are not done yet; the shard that ends last writes the tables")
        return int(failed > 0)
    for path in output.leftovers(options.out):
        path.unlink(missing_ok=True)
    unknown = parts.unknown(jobs.files)
    if unknown:
        log(f"{unknown} files that were analysed earlier are not in {options.named} now; the tables leave them out")
    as_csv = options.csv or (options.out / "files.csv").exists()  # otherwise it would stay as it was
    totals = output.write_tables(options.out, jobs, parts, settings, as_csv=as_csv)
    record.finish(options.out, started, {"result": dataclasses.asdict(totals)})
    names = ", ".join(output.table_names(settings.per, as_csv=as_csv))
    log(f"{options.out}: {counted(totals.files, 'file')}, {counted(totals.rows, 'row')} ({names})")
    if totals.failed:
        log(f"{totals.failed} of {counted(len(jobs.files), 'file')} could not be analysed; {options.out}/failures.csv says why")
    return int(totals.failed > 0)
