"""`moodring data list|verify`: what there is to be had, and whether a folder holds it whole."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from moodring.evaluation.data.catalogue import CATALOGUE
from moodring.evaluation.data.verify import verify

MAX_NOTES = 6


def list_datasets() -> int:
    """Print every data set that moodring reads; return the exit code."""
    console = Console()
    for data_set in CATALOGUE:
        console.print(f"[bold]{data_set.name}[/bold]: {data_set.description}", highlight=False)
        rows = [
            ("for", data_set.used_for),
            ("licence", f"{data_set.licence} (commercial use: {data_set.commercial})"),
            ("from", data_set.source),
            ("layout", data_set.layout),
            ("holds", data_set.size),
            *((f"md5 {name}", digest) for name, digest in data_set.md5),
        ]
        for key, value in rows:
            console.print(f"  {key}: {value}", highlight=False, soft_wrap=True, markup=False)
    return 0


def verify_folder(folder: Path) -> int:
    """Print what a folder holds; return 1 where something in it is broken or it holds nothing, else 0."""
    findings = verify(folder)
    table = Table("data set", "verdict", "what was found")
    for finding in findings:
        notes = list(finding.notes[:MAX_NOTES])
        if len(finding.notes) > MAX_NOTES:
            notes.append(f"and {len(finding.notes) - MAX_NOTES} more")
        table.add_row(finding.name, finding.verdict, "\n".join(notes))
    Console(soft_wrap=False).print(table)
    broken = any(finding.verdict == "broken" for finding in findings)
    return int(broken or all(finding.verdict == "absent" for finding in findings))
