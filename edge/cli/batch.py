"""The subcommand for many files: batch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moodring.arguments import frozen, positive, shard, whole
from moodring.cli.lazy import lazy
from moodring.cli.run import add_settings, add_tracks, note_unread_variables


def add_batch(commands: Any) -> None:
    batch = commands.add_parser(
        "batch",
        help="analyse many files in several processes, and write tables (extra: batch)",
        description="Analyse the images, recordings and sounds of a folder, a list or a manifest. DIR gets files.parquet (a "
        "row for each file), events.parquet (a row for each event or face), failures.csv and run.json. The same command "
        "continues after an interrupt, a crash or a power failure, and tries the files that failed again.",
        epilog="Exit codes: 0 all files were analysed, 1 a file failed (failures.csv says why) or DIR could not be written, 2 "
        "the command line or configuration is wrong, or DIR belongs to something else, 130 interrupted.",
    )
    batch.add_argument(
        "named",
        metavar="IN",
        help="folder, quoted pattern, text file with a path on each line, or CSV file with the column `path`, whose other "
        "columns are copied to files.parquet",
    )
    batch.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a new or empty folder, or that of the batch to continue"
    )
    batch.add_argument(
        "--per",
        choices=("event", "second", "file"),
        default="event",
        help="rows of the second table: events.parquet, seconds.parquet, or no such table (event)",
    )
    batch.add_argument("--csv", action="store_true", help="also write each table as CSV, rounded to four decimals")
    batch.add_argument("--workers", type=whole(1), metavar="N", help="processes (the number of cores that may be used)")
    batch.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="only every N-th file from the I-th; all shards use the same DIR, and the last one to end writes the tables",
    )
    batch.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration (moodring config init writes one)")
    add_settings(batch)
    batch.add_argument("--seconds", type=positive, metavar="N", help="read the first N seconds of each recording")
    add_tracks(batch)
    batch.set_defaults(command=_batch)


def _batch(arguments: argparse.Namespace) -> int:
    note_unread_variables()
    run = lazy("analysis.batch.run")
    return int(run.run(frozen(run.BatchOptions, arguments)))
