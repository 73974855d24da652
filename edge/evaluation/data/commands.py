"""`moodring data list|verify`: print the catalogue, and verify the data sets in a folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moodring.errors import printable
from moodring.evaluation.data.catalogue import CATALOGUE
from moodring.evaluation.data.verify import verify

MAX_NOTES = 6


def list_datasets() -> int:
    """Print every supported data set; return the exit code."""
    console = Console()
    for data_set in CATALOGUE:
        console.print(f"[bold]{data_set.name}[/bold]: {data_set.description}", highlight=False, soft_wrap=True)
        rows = [
            ("used for", data_set.used_for),
            ("licence", f"{data_set.licence} (commercial use: {data_set.commercial})"),
            ("source", data_set.source),
            ("layout", data_set.layout),
            ("size", data_set.size),
            *((f"MD5 of {name}", digest) for name, digest in data_set.md5),
        ]
        for key, value in rows:
            console.print(f"  {key}: {value}", highlight=False, soft_wrap=True, markup=False)
    return 0


def verify_folder(folder: Path) -> int:
    """Print the data sets in a folder, then all that is wrong with its corpora of speech.

    Return 1 if one of them is damaged or none is there, else 0.
    """
    findings = verify(folder)
    console = Console(soft_wrap=False)
    table = Table("data set", "verdict", "notes")
    for finding in findings:
        notes = list(finding.notes[:MAX_NOTES])
        if len(finding.notes) > MAX_NOTES:
            notes.append(f"and {len(finding.notes) - MAX_NOTES} more")
        table.add_row(*map(Text, (printable(finding.name), finding.verdict, "\n".join(map(printable, notes)))))
    console.print(table)
    for finding in findings:
        for line in finding.faults:
            console.print(printable(f"{finding.name}: {line}"), highlight=False, soft_wrap=True, markup=False)
    damaged = any(finding.verdict == "damaged" for finding in findings)
    return int(damaged or all(finding.verdict == "absent" for finding in findings))
