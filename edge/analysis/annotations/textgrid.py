"""Praat TextGrid files, by praatio (extra `formats`)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from moodring.analysis.annotations.intervals import Annotations, plain
from moodring.analysis.annotations.libraries import load


def textgrid(annotations: Annotations) -> bytes:
    """Return a long TextGrid: for each track an interval tier of labels and one of their mean probabilities. Gaps are empty."""
    praatio = load("praatio.textgrid")
    end_s = max(1, annotations.end_ms) / 1000
    grid = praatio.Textgrid(0, end_s)
    for track in annotations.tracks:
        labels = [(one.start_s, one.end_s, plain(one.label)) for one in track.intervals]
        probabilities = [(one.start_s, one.end_s, f"{one.probability:.4f}") for one in track.intervals]
        grid.addTier(praatio.IntervalTier(track.name, labels, 0, end_s))
        grid.addTier(praatio.IntervalTier(f"{track.name} probability", probabilities, 0, end_s))
    with tempfile.TemporaryDirectory() as folder:  # praatio writes to paths only
        path = Path(folder) / "annotations"
        grid.save(str(path), "long_textgrid", includeBlankSpaces=True, minimumIntervalLength=None, reportingMode="error")
        return path.read_bytes()
