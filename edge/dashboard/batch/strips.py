"""Labels over time as shapes: the runs of equal labels of one file, or the shares of labels of many files on one time axis."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Run = tuple[float, float, str | None]  # start and end in s, label
WIDTH = 1000  # units of a shape
HEIGHT = 100  # of the shares of many files; a strip of one file is 1 high


@dataclass(frozen=True, slots=True)
class Strip:
    """Labels over `length_s`. `shapes` are SVG path data by label, in a box of `WIDTH` x `height`; blank: no label."""

    length_s: float
    height: int
    shapes: dict[str, str]


def merge(rows: Iterable[tuple[float, str | None]], row_s: float, *, from_start: bool) -> list[Run]:
    """Return the runs of equal labels of rows of `row_s` each; the time of a row is that of its end, or of its start."""
    merged: list[Run] = []
    for time_s, label in rows:
        start = time_s if from_start else time_s - row_s
        if merged and abs(start - merged[-1][1]) < row_s / 2:
            start = merged[-1][1]
            if merged[-1][2] == label:
                merged[-1] = (merged[-1][0], start + row_s, label)
                continue
        merged.append((max(0.0, start), start + row_s, label))
    return merged


def file_strip(merged: Sequence[Run], length_s: float, limit: int) -> Strip:
    """Return the strip of one file, with at most `limit` rectangles: beyond it each column has its longest label."""
    length_s = max([length_s, *(end for _, end, _ in merged)])
    if len(merged) > limit:
        columns = Columns(length_s, limit)
        columns.add(merged)
        merged = list(columns.longest())
    shapes: dict[str, str] = {}
    for start, end, label in merged:
        if label is not None:
            left = min(WIDTH - 1, round(WIDTH * start / length_s))
            width = max(1, round(WIDTH * end / length_s) - left)
            shapes[label] = f"{shapes.get(label, '')}M{left} 0h{width}v1h-{width}z"
    return Strip(length_s, 1, shapes)


class Columns:
    """Time with each label in columns of equal width, over the runs of any number of files."""

    def __init__(self, length_s: float, number: int) -> None:
        self.length_s = length_s
        self._width_s = length_s / number
        self._seconds: list[dict[str | None, float]] = [defaultdict(float) for _ in range(number)]

    def add(self, merged: Iterable[Run]) -> None:
        """Add the runs of one file. What lies after the last column is added to it."""
        last = len(self._seconds) - 1
        for start, end, label in merged:
            for column in range(min(last, int(start / self._width_s)), min(last, int(end / self._width_s)) + 1):
                left = max(start, column * self._width_s)
                right = end if column == last else min(end, (column + 1) * self._width_s)
                self._seconds[column][label] += max(0.0, right - left)

    def longest(self) -> Iterator[Run]:
        """Yield the runs of the longest label of each column."""
        found = [max(seconds, key=lambda label: seconds[label], default=None) for seconds in self._seconds]
        for label, columns in itertools.groupby(range(len(found)), key=lambda column: found[column]):
            first, *rest = columns
            yield first * self._width_s, ([first, *rest][-1] + 1) * self._width_s, label

    def strip(self, labels: Sequence[str]) -> Strip:
        """Return the shares of labels of each column, stacked. What remains up to the height had no label."""
        shapes: dict[str, str] = {}
        for column, seconds in enumerate(self._seconds):
            left, end = (round(WIDTH * place / len(self._seconds)) for place in (column, column + 1))
            total, bottom = sum(seconds.values()), HEIGHT
            covered = 0.0
            for label in labels:
                covered += seconds.get(label, 0.0)
                top = HEIGHT - round(HEIGHT * covered / total) if total else HEIGHT
                if top < bottom:
                    shapes[label] = f"{shapes.get(label, '')}M{left} {top}H{end}V{bottom}H{left}z"
                bottom = top
        return Strip(self.length_s, HEIGHT, shapes)
