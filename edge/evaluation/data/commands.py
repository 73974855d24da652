"""`moodring data list|verify`: what there is to be had, and whether a folder holds it whole."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from moodring.evaluation.data.catalogue import CATALOGUE
from moodring.evaluation.data.verify import verify

SHOWN_NOTES = 6


def list_sets() -> int:
    """Print every data set that moodring reads; return the exit code."""
    console = Console()
    for each in CATALOGUE:
        console.print(f"[bold]{each.name}[/bold]: {each.what}", highlight=False)
        rows = [
            ("for", each.used_for),
            ("licence", f"{each.licence} (commercial use: {each.commercial})"),
            ("from", each.source),
            ("layout", each.layout),
            ("holds", each.count),
            *((f"md5 {name}", digest) for name, digest in each.md5),
        ]
        for key, value in rows:
            console.print(f"  {key}: {value}", highlight=False, soft_wrap=True, markup=False)
    return 0


def verify_folder(folder: Path) -> int:
    """Print what a folder holds; return 1 where something in it is broken or it holds nothing, else 0."""
    findings = verify(folder)
    table = Table("data set", "verdict", "what was found")
    for finding in findings:
        notes = list(finding.notes[:SHOWN_NOTES])
        if len(finding.notes) > SHOWN_NOTES:
            notes.append(f"and {len(finding.notes) - SHOWN_NOTES} more")
        table.add_row(finding.name, finding.verdict, "\n".join(notes))
    Console(soft_wrap=False).print(table)
    broken = any(finding.verdict == "broken" for finding in findings)
    return int(broken or all(finding.verdict == "absent" for finding in findings))
