"""Summary of an analysis: shares of labels and states, mean probabilities, transitions, and what was missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from moodring.analysis.row import Row, Value
from moodring.analysis.text import aligned

Kind = Literal["image", "video", "sound"]
BAR_CHARACTERS = 20
MIN_SHOWN_SHARE = 0.005  # of a label in the text; smaller ones print as 0 %


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of an image, a recording or sound. All shares are in [0, 1] and by rows: equal steps of time, or faces.

    `label` is the most frequent one, None if no row has a label. `shares` are by label, of the rows with a label; their sum
    is 1. `mean_probabilities` are over the same rows. `labelled` is the share of rows with a label, `fused` that of rows that
    use face and voice together; `states` are the shares of all states. `transitions` counts the changes from one row to the
    next, by (from, to). `faces` is the number of faces in an image, and of face tracks in a recording. `missing` says in words
    what was absent, lost or damaged.
    """

    source: str
    kind: Kind
    duration_s: float
    rows: int
    label: str | None
    labelled: float
    fused: float
    faces: int
    shares: dict[str, float]
    mean_probabilities: dict[str, float]
    states: dict[str, float]
    transitions: dict[tuple[str, str], int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Value]:
        """Return the summary as a flat dictionary: one row of a table of files."""
        return {
            "file": self.source,
            "kind": self.kind,
            "duration_s": self.duration_s,
            "rows": self.rows,
            "label": self.label,
            "labelled": self.labelled,
            "fused": self.fused,
            "faces": self.faces,
            "transitions": sum(self.transitions.values()),
            **{f"share_{label}": share for label, share in self.shares.items()},
            **{f"mean_p_{label}": self.mean_probabilities.get(label) for label in self.shares},
            "missing": "; ".join(self.missing),
        }

    def __str__(self) -> str:
        """Return the summary as lines of text for people."""
        shown = [label for label in self.shares if self.shares[label] >= MIN_SHOWN_SHARE]
        table = [
            (label, f"{self.shares[label]:.0%}", f"{self.mean_probabilities[label]:.2f}", self._bar(label))
            for label in sorted(shown, key=lambda label: -self.shares[label])
        ]
        lines = [f"{self.source}: {self._extent()}, {self._labelled()}"]
        if table:
            lines += ["  " + line for line in aligned([("label", "share", "mean probability", ""), *table], right={1, 2})]
        changes = Counter(self.transitions).most_common(3)
        if changes:
            most = ", ".join(f"{before} to {after} {count}" for (before, after), count in changes)
            lines.append(f"  transitions: {sum(self.transitions.values())} ({most})")
        return "\n".join(lines + [f"  missing: {what}" for what in self.missing])

    def _bar(self, label: str) -> str:
        return "#" * round(BAR_CHARACTERS * self.shares[label])

    def _extent(self) -> str:
        if self.kind == "image":
            return f"image, {counted(self.faces, 'face')}"
        faces = f", {counted(self.faces, 'face track')}" if self.kind == "video" else ""
        return f"{self.kind}, {self.duration_s:.1f} s, {counted(self.rows, 'row')}{faces}"

    def _labelled(self) -> str:
        unit = "faces" if self.kind == "image" else "rows"
        if not self.label:
            return "no label"
        both = f", {self.fused:.0%} from face and voice together" if self.kind == "video" else ""
        return f"a label for {self.labelled:.0%} of the {unit}{both}"


def summary_columns(labels: Sequence[str]) -> dict[str, type]:
    """Return the columns of a table of files (`Summary.to_dict`), with the type of their values."""
    return {
        "file": str,
        "kind": str,
        "duration_s": float,
        "rows": int,
        "label": str,
        "labelled": float,
        "fused": float,
        "faces": int,
        "transitions": int,
        **{f"share_{label}": float for label in labels},
        **{f"mean_p_{label}": float for label in labels},
        "missing": str,
    }


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: 1 face, 2 faces."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


class Tally:
    """Counts the rows of one file as they come, so that no row needs to be kept."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._before: str | None = None  # label of the previous row
        self._rows = self._fused = 0
        self._counts: Counter[str] = Counter()
        self._states: Counter[str] = Counter()
        self._sums = dict.fromkeys(self._labels, 0.0)
        self._transitions: Counter[tuple[str, str]] = Counter()
        self._faces: set[int] = set()

    def add(self, row: Row) -> None:
        """Count the next row."""
        self._rows += 1
        self._states[row.state] += 1
        self._fused += row.fused
        if row.face_id is not None:
            self._faces.add(row.face_id)
        if row.label is not None:
            self._counts[row.label] += 1
            for label, probability in (row.probabilities or {}).items():
                self._sums[label] += probability
            if self._before not in (None, row.label):
                self._transitions[str(self._before), row.label] += 1
        self._before = row.label

    def summary(self, *, source: str, kind: Kind, duration_s: float, missing: Iterable[str]) -> Summary:
        """Return the summary of the rows so far."""
        labelled, rows = sum(self._counts.values()), max(1, self._rows)
        return Summary(
            source=source,
            kind=kind,
            duration_s=duration_s,
            rows=self._rows,
            label=max(self._labels, key=lambda label: self._counts[label]) if labelled else None,
            labelled=labelled / rows,
            fused=self._fused / rows,
            faces=len(self._faces),
            shares={label: self._counts[label] / max(1, labelled) for label in self._labels},
            mean_probabilities={label: total / labelled for label, total in self._sums.items()} if labelled else {},
            states={state: count / rows for state, count in self._states.items()},
            transitions={} if kind == "image" else dict(self._transitions),
            missing=tuple(missing),
        )
