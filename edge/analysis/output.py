"""What `moodring analyze` writes: text for people, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import IO, Literal

from moodring.analysis import tables
from moodring.analysis.result import Analysis
from moodring.analysis.row import Row, Value
from moodring.analysis.summary import summary_columns
from moodring.analysis.text import aligned

Format = Literal["table", "json", "csv", "parquet"]
Per = Literal["event", "file"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that could not be analysed, and why."""

    file: str
    error: str


class Output:
    """Writes analyses, one after the other, to a binary file: a record for each row, or `per` file one for each file.

    Numbers are rounded as in events.
    """

    def __init__(self, file: IO[bytes], labels: Sequence[str], per: Per) -> None:
        self._file, self._per = file, per
        self._types = tables.columns_of_file(labels) if per == "event" else summary_columns(labels)

    def begin(self) -> None:
        """Write what comes first."""

    def add(self, analysis: Analysis) -> None:
        """Write one analysis."""

    def end(self, failures: Sequence[Failure]) -> None:
        """Write what comes last."""

    def _records(self, analysis: Analysis) -> list[dict[str, Value]]:
        records = analysis.to_dicts() if self._per == "event" else [analysis.summary.to_dict()]
        return [tables.rounded(record) for record in records]

    def _write(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "backslashreplace"))
        self._file.flush()


class TextOutput(Output):
    """Text for people: the faces of images and the summaries of recordings, or all rows."""

    def add(self, analysis: Analysis) -> None:
        rows = [_cells(row) for row in analysis]
        lines = [str(analysis)]
        if self._per == "event" and analysis.kind != "image":
            lines += ["  " + line for line in aligned([ROW_HEADER, *rows], right={0, 2})]
        self._write("\n".join(lines) + "\n")


ROW_HEADER = ("time", "label", "confidence", "face", "speech", "box")


def _cells(row: Row) -> tuple[str, ...]:
    x, y, w, h = row.box_xywh or (0, 0, 0, 0)
    return (
        f"{row.time_s:.1f}",
        row.label or row.state,
        "-" if row.confidence is None else f"{row.confidence:.2f}",
        row.face.label if row.face else "-",
        row.speech.label if row.speech else "-",
        f"{w}x{h} at {x},{y}" if row.box_xywh else "-",
    )


class CsvOutput(Output):
    """One table with a header. A value that is missing is empty."""

    def begin(self) -> None:
        self._write(self._lines([dict(zip(self._types, self._types, strict=True))]))

    def add(self, analysis: Analysis) -> None:
        self._write(self._lines(self._records(analysis)))

    def _lines(self, records: Sequence[dict[str, Value]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, list(self._types), lineterminator="\n").writerows(records)
        return text.getvalue()


class JsonOutput(Output):
    """One object: `analyses`, each with its summary and rows, and `failures`."""

    _separator = "\n"

    def begin(self) -> None:
        self._write('{"analyses": [')

    def add(self, analysis: Analysis) -> None:
        summary = analysis.summary
        transitions = [[before, after, count] for (before, after), count in summary.transitions.items()]
        document = {
            "file": analysis.source,
            "kind": analysis.kind,
            "duration_s": analysis.duration_s,
            "frame_wh": analysis.frame_wh,
            "bundle_id": analysis.bundle_id,
            "missing": analysis.missing,
            "summary": {
                "label": summary.label,
                "labelled": summary.labelled,
                "fused": summary.fused,
                "faces": summary.faces,
                "shares": summary.shares,
                "mean_probabilities": summary.mean_probabilities,
                "states": summary.states,
                "transitions": transitions,
            },
        }
        rows = [tables.rounded(row.to_dict(analysis.labels)) for row in analysis] if self._per == "event" else []
        text = json.dumps(document | ({"rows": rows} if self._per == "event" else {}))
        self._write(self._separator + text)
        self._separator = ",\n"

    def end(self, failures: Sequence[Failure]) -> None:
        self._write(f'\n], "failures": {json.dumps([asdict(failure) for failure in failures])}}}\n')


class ParquetOutput(Output):
    """One table, a row group for each file, with the full precision of the numbers."""

    def begin(self) -> None:
        self._writer = tables.open_parquet(self._types, self._file)

    def add(self, analysis: Analysis) -> None:
        records = analysis.to_dicts() if self._per == "event" else [analysis.summary.to_dict()]
        self._writer.write_table(tables.arrow_table(records, self._types))

    def end(self, failures: Sequence[Failure]) -> None:  # noqa: ARG002  the command reports them
        self._writer.close()


OUTPUTS: dict[Format, type[Output]] = {"table": TextOutput, "json": JsonOutput, "csv": CsvOutput, "parquet": ParquetOutput}
