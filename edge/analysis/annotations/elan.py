"""ELAN annotation files (.eaf), by pympi (extra `formats`)."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path
from typing import Any

from moodring.analysis.annotations.intervals import Annotations, Track, plain
from moodring.analysis.annotations.libraries import load

LABELS, PROBABILITIES = "label", "probability"  # linguistic types


def eaf(annotations: Annotations, media: Path | None = None, out: Path | None = None) -> bytes:
    """Return an EAF document: for each track a tier of labels, and a tier below it with the mean probability of each label.

    `media` is the recording that ELAN opens with it; `out`, where the document will be, gives its relative path.
    """
    elan = load("pympi.Elan")
    document = elan.Eaf(author="moodring")
    for name, constraint in ((LABELS, None), (PROBABILITIES, "Symbolic_Association")):
        document.add_linguistic_type(name, constraint, timealignable=constraint is None)
    if media is not None:
        media = media.absolute()  # with the name of a link, not of its target
        relative = os.path.relpath(media, (out or media).absolute().parent)
        kind = mimetypes.guess_type(media.name)[0] or "unknown"
        document.add_linked_file(media.as_uri(), plain(f"./{relative}"), kind)
    document.add_property("moodring clock", plain(f"second 0 is the {annotations.clock}"))
    for track in annotations.tracks:
        _add(document, track)
    if annotations.tracks:
        document.remove_tier("default")
        document.remove_linguistic_type("default-lt")
    text: str = elan.to_string(document)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()


def _add(document: Any, track: Track) -> None:
    child = f"{track.name} probability"
    document.add_tier(track.name, LABELS)
    document.add_tier(child, PROBABILITIES, parent=track.name)
    for one in track.intervals:
        document.add_annotation(track.name, one.start_ms, one.end_ms, plain(one.label))
    # add_ref_annotation searches the parent of each annotation anew, in a time that grows with their number
    references = document.tiers[child][1]
    for parent, one in zip(tuple(document.tiers[track.name][0]), track.intervals, strict=True):
        name = document.generate_annotation_id()
        document.annotations[name] = child
        references[name] = (parent, f"{one.probability:.4f}", None, None)
