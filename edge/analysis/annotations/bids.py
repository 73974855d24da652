"""BIDS task events: events.tsv with its sidecar events.json (Brain Imaging Data Structure 1.10)."""

from __future__ import annotations

import json

from moodring.analysis.annotations.intervals import Annotations, plain

HEADER = ("onset", "duration", "trial_type", "tier", "probability", "events")


def events_tsv(annotations: Annotations) -> bytes:
    """Return the table: a row for each interval, in the order of the onsets."""
    rows = [(one, track.name) for track in annotations.tracks for one in track.intervals]
    rows.sort(key=lambda row: row[0].start_ms)
    lines = [
        (_seconds(one.start_ms), _seconds(one.end_ms - one.start_ms), plain(one.label), tier, f"{one.probability:.4f}",
         str(one.events))
        for one, tier in rows
    ]  # fmt: skip
    return "".join("\t".join(line) + "\n" for line in (HEADER, *lines)).encode()


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03d}"


def events_json(annotations: Annotations) -> bytes:
    """Return the sidecar, which describes the columns."""
    labels = sorted({plain(one.label) for track in annotations.tracks for one in track.intervals})
    document = {
        "onset": {"Description": plain(f"Start of the interval; second 0 is the {annotations.clock}"), "Units": "s"},
        "duration": {"Description": "Length of the interval", "Units": "s"},
        "trial_type": {
            "LongName": "Expression",
            "Description": "Visible and audible expression as moodring published it, not what a person feels",
            "Levels": {label: f"expression {label}" for label in labels},
        },
        "tier": {
            "Description": "What the label comes from",
            "Levels": {track.name: DESCRIPTIONS[track.tier] for track in annotations.tracks},
        },
        "probability": {"Description": "Mean probability of the label over the events of the interval"},
        "events": {"Description": "Number of events in the interval"},
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


DESCRIPTIONS = {
    "expression": "face and voice together, after smoothing",
    "face": "face alone, where an event used it",
    "speech": "voice alone, where an event used it",
}
