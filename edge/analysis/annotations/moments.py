"""The events of one stream in columns: a day of five events a second takes 100 MB, not a gigabyte."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

Tier = Literal["expression", "face", "speech"]

EXPRESSION: Final = "expression"  # the published label: face and voice together, after smoothing
TIERS: Final[tuple[Tier, ...]] = (EXPRESSION, "face", "speech")
NO_RESULT = -1


class Result(NamedTuple):
    """One result: its label, and the probability of every label."""

    label: str
    probabilities: dict[str, float]


class Moment(NamedTuple):
    """One event: its time, its state, and the result of each tier that has one: of a branch only if the event uses it."""

    time_ms: int
    state: str
    results: dict[Tier, Result]


class Moments:
    """Moments in the order in which they are added; iterate over them any number of times."""

    def __init__(self) -> None:
        self.times_ms = array("q")
        self._states = array("i")
        self._columns = {tier: _Results() for tier in TIERS}
        self._names: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.times_ms)

    def __iter__(self) -> Iterator[Moment]:
        names = tuple(self._names)
        columns = self._columns.items()
        for k, time_ms in enumerate(self.times_ms):
            results = {tier: result for tier, column in columns if (result := column.get(k)) is not None}
            yield Moment(time_ms, names[self._states[k]], results)

    def append(self, moment: Moment) -> None:
        """Add a moment."""
        self.times_ms.append(moment.time_ms)
        self._states.append(self._names.setdefault(moment.state, len(self._names)))
        for tier, column in self._columns.items():
            column.append(moment.results.get(tier))

    def ordered(self, start_ms: int = 0) -> Moments:
        """Return the moments in the order of their times, which then count from `start_ms`. Equal times keep their order."""
        order = sorted(range(len(self)), key=self.times_ms.__getitem__)
        found = Moments()
        found.times_ms = array("q", (self.times_ms[k] - start_ms for k in order))
        found._names = self._names
        found._states = array("i", (self._states[k] for k in order))
        found._columns = {tier: column.reordered(order) for tier, column in self._columns.items()}
        return found


class _Results:
    """The results of one tier: the places of each result's probabilities in one array, and its labels."""

    def __init__(self) -> None:
        self._places = array("q")
        self._labels = array("i")  # the place of the label among those of the layout
        self._layouts = array("i")
        self._values = array("d")
        self._known: dict[tuple[str, ...], int] = {}
        self._names: list[tuple[str, ...]] = []

    def append(self, result: Result | None) -> None:
        if result is None:
            self._add(NO_RESULT, 0, 0)
            return
        names = tuple(result.probabilities)
        layout = self._known.setdefault(names, len(self._known))
        if layout == len(self._names):
            self._names.append(names)
        self._add(len(self._values), names.index(result.label), layout)
        self._values.extend(result.probabilities.values())

    def _add(self, place: int, label: int, layout: int) -> None:
        self._places.append(place)
        self._labels.append(label)
        self._layouts.append(layout)

    def get(self, k: int) -> Result | None:
        place = self._places[k]
        if place == NO_RESULT:
            return None
        names = self._names[self._layouts[k]]
        values = self._values[place : place + len(names)]
        return Result(names[self._labels[k]], dict(zip(names, values, strict=True)))

    def reordered(self, order: list[int]) -> _Results:
        found = _Results()
        found._places, found._labels, found._layouts = (
            array(column.typecode, (column[k] for k in order)) for column in (self._places, self._labels, self._layouts)
        )
        found._values, found._known, found._names = self._values, self._known, self._names
        return found
