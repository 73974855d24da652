"""What listeners call the recordings of a corpus: votes.csv beside the manifest, or the column `votes` of the manifest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from moodring.errors import DataError
from moodring.evaluation.data.table import parse_number, read_table
from moodring.labels import speech_label

VOTES = "votes.csv"
VOICE_CHANNELS = ("voice", "audio")  # rows on the sound alone, where the file has a column `channel`

Shares = dict[str, float]  # share of the votes by label; they sum to 1


def parse_votes(text: str) -> Shares | None:
    """Return the shares of a cell such as `angry:6 disgust:2`; None without a vote. Raises ValueError."""
    counts: dict[str, float] = {}
    for part in text.replace(";", " ").split():
        name, _, number = part.rpartition(":")
        count = parse_number(number)
        if not name or count is None:
            raise ValueError(f"votes must be labels and counts such as 'angry:6 disgust:2', found {text[:40]!r}")
        counts[speech_label(name)] = counts.get(speech_label(name), 0.0) + count
    return _shares(counts)


def read_votes(folder: Path, labels: Collection[str]) -> dict[str, Shares | None]:
    """Read votes.csv: the shares by the name of the clip, which is its path or its file name without suffix.

    The columns are `clip`, `channel` (optional: only the rows on the voice count) and one with counts for each of `labels`.
    The result is empty without the file. Raises DataError.
    """
    path = folder / VOTES
    if not path.is_file():
        return {}
    header, rows = read_table(path)
    classes = {place: speech_label(name) for place, name in enumerate(header) if speech_label(name) in labels}
    if "clip" not in header or not classes:
        raise DataError(
            f"{path}: the first line must name the column clip and one for each class, found {','.join(header)[:80]!r}"
        )
    votes: dict[str, Shares | None] = {}
    for row, cells in rows.items():
        if len(cells) != len(header):
            raise DataError(f"{path}: row {row}: expected {len(header)} columns, found {len(cells)}")
        if "channel" in header and cells[header.index("channel")].strip().lower() not in VOICE_CHANNELS:
            continue
        name = cells[header.index("clip")].strip()
        if name in votes:
            raise DataError(f"{path}: row {row}: {name} has votes in another row as well")
        votes[name] = _shares(_parse_counts(path, row, cells, classes))
    return votes


def _parse_counts(path: Path, row: int, cells: list[str], classes: Mapping[int, str]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for place, label in classes.items():
        count = parse_number(cells[place].strip() or "0")
        if count is None:
            raise DataError(f"{path}: row {row}: the votes for {label} must be a number of at least 0, found {cells[place]!r}")
        counts[label] = counts.get(label, 0.0) + count
    return counts


def _shares(counts: Mapping[str, float]) -> Shares | None:
    total = sum(counts.values())
    return {label: count / total for label, count in counts.items() if count} if total > 0 else None
