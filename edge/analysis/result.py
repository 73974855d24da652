"""The result of an analysis: its rows, and the tables that are made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moodring.analysis import tables
from moodring.analysis.annotations.files import AnnotationFormat, write_annotations
from moodring.analysis.annotations.intervals import annotate_rows
from moodring.analysis.annotations.moments import Tier
from moodring.analysis.row import Row, Value
from moodring.analysis.summary import Kind, Summary, Tally
from moodring.analysis.text import aligned
from moodring.errors import UsageError, printable

if TYPE_CHECKING:  # an extra, imported when it is used
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Analysis:
    """The rows of one image, recording or sound, in the order of their times; iterate over it, or use `rows`.

    `source` names the file, `kind` is image, video or sound. `labels` are those of the bundle, in the order of probabilities.
    `frame_wh` is the size of a frame in the pixels of the boxes; None without video. `missing` says in words what was absent,
    lost or damaged. `bundle_id` names the networks.
    """

    source: str
    kind: Kind
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    duration_s: float
    bundle_id: str
    frame_wh: tuple[int, int] | None = None
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows."""
        return iter(self.rows)

    @property
    def summary(self) -> Summary:
        """Shares of labels and states, mean probabilities, transitions, and what was missing. Its text is for people."""
        tally = Tally(self.labels)
        for row in self.rows:
            tally.add(row)
        return tally.summary(source=self.source, kind=self.kind, duration_s=self.duration_s, missing=self.missing)

    def to_dicts(self) -> list[dict[str, Value]]:
        """Return a flat dictionary for each row. All have the same keys, of which the first is `file`."""
        return [{"file": self.source, **row.to_dict(self.labels)} for row in self.rows]

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame (extra `batch`). Raises UsageError without pandas."""
        return tables.to_pandas(self.to_dicts(), tables.columns_of_file(self.labels))

    def to_parquet(self, path: str | Path) -> None:
        """Write the rows as a Parquet file (extra `batch`), replacing a file that exists. Only its owner may read it.

        The file is complete or absent. Raises UsageError without pyarrow, OSError if the file cannot be written.
        """
        with tables.private_file(Path(path)) as file:
            types = tables.columns_of_file(self.labels)
            with tables.open_parquet(types, file) as writer:
                writer.write_table(tables.arrow_table(self.to_dicts(), types))

    def to_annotations(
        self,
        path: str | Path,
        format: AnnotationFormat,  # noqa: A002  the word of the command line
        *,
        tiers: Sequence[Tier] | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write the labels over time as a file of another program (docs/annotations.md), and return the files.

        `format` is vtt, srt, elan, textgrid, bids or xdf; of BIDS, `path` is the .tsv file, and its sidecar is written too.
        `tiers` are all, or for subtitles `expression`, unless others are named. Only the owner may read the files; each is
        complete or absent. Raises UsageError for an image, if a file exists and `overwrite` is not set, or without the library
        of the format (extra `formats`); OSError if a file cannot be written.
        """
        if self.kind == "image":
            raise UsageError(f"{self.source} is an image: annotations need a recording or sound")
        media = Path(self.source) if Path(self.source).is_file() else None
        annotations = annotate_rows(self.rows, self.source)
        return write_annotations(Path(path), annotations, format, tiers=tiers, media=media, overwrite=overwrite)

    def __str__(self) -> str:
        """Return the faces of an image, or the summary of a recording, as lines of text for people."""
        if self.kind != "image":
            return str(self.summary)
        faces = [row for row in self.rows if row.face_id is not None]
        header = ("face", "label", "confidence", "quality", "usable", "box")
        lines = [str(self.summary).split("\n")[0], *(f"  missing: {what}" for what in self.missing)]
        table = aligned([header, *map(_face_cells, faces)], right={0, 2, 3, 4}) if faces else []
        return "\n".join(lines + ["  " + line for line in table])


def _face_cells(row: Row) -> tuple[str, ...]:
    x, y, w, h = row.box_xywh or (0, 0, 0, 0)
    numbers = ("-" if value is None else f"{value:.2f}" for value in (row.confidence, row.quality, row.usable))
    return (str(row.face_id), printable(row.label or "none"), *numbers, f"{w}x{h} at {x},{y}")
