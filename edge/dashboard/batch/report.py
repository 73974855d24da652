"""`moodring report DIR --html OUT`: the report of the output folder of a batch."""

from __future__ import annotations

import sys
from pathlib import Path

from moodring.analysis.summary import counted
from moodring.dashboard.batch.figures import read_figures
from moodring.dashboard.batch.page import render
from moodring.dashboard.batch.tables import open_tables
from moodring.dashboard.document import write_document
from moodring.process import log


def write_report(folder: Path, out: Path, group: str | None) -> int:
    """Summarise a batch and write the report. `group` is a column of the manifest. Return the exit code.

    Raises UsageError for a folder that is not that of a batch or an unknown column, DataError for an unfinished batch or
    damaged tables, and OSError.
    """
    figures = read_figures(open_tables(folder), group)
    write_document(out, render(folder.resolve().name, figures))
    print(
        f"wrote {out}: {counted(len(figures.files), 'file')}, {len(figures.failures)} failed, "
        f"{counted(len(figures.multiples), 'group' if group else 'multiple')}",
        file=sys.stderr,
    )
    if figures.omitted:
        log(f"{out} shows the first {len(figures.multiples)}, and leaves out {figures.omitted}; the totals are of all files")
    return 0
