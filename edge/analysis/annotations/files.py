"""Annotation files by format: names, contents, and writing without replacing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from moodring.analysis.annotations.bids import events_json, events_tsv
from moodring.analysis.annotations.elan import eaf
from moodring.analysis.annotations.intervals import Annotations
from moodring.analysis.annotations.libraries import load
from moodring.analysis.annotations.moments import EXPRESSION, TIERS, Tier
from moodring.analysis.annotations.subtitles import srt, vtt
from moodring.analysis.annotations.textgrid import textgrid
from moodring.analysis.annotations.xdf import xdf
from moodring.analysis.tables import private_file
from moodring.errors import UsageError

AnnotationFormat = Literal["vtt", "srt", "elan", "textgrid", "bids", "xdf"]

SUFFIXES: Mapping[AnnotationFormat, str] = {
    "vtt": ".vtt", "srt": ".srt", "elan": ".eaf", "textgrid": ".TextGrid", "bids": "_events.tsv", "xdf": ".xdf",
}  # fmt: skip
WRITERS: Mapping[AnnotationFormat, Callable[[Annotations], bytes]] = {
    "vtt": vtt, "srt": srt, "textgrid": textgrid, "xdf": xdf,
}  # fmt: skip
LIBRARIES: Mapping[AnnotationFormat, str] = {
    "vtt": "pysubs2", "srt": "pysubs2", "elan": "pympi.Elan", "textgrid": "praatio.textgrid",
}  # fmt: skip


def write_annotations(
    path: Path,
    annotations: Annotations,
    format: AnnotationFormat,  # noqa: A002  the word of the command line
    *,
    tiers: Sequence[Tier] | None = None,
    media: Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write annotations in one format, and return the files: one, and for BIDS also the sidecar.

    `tiers` are all, or for subtitles `expression`, unless others are named. `media` is the recording that an ELAN file opens
    with it. Each file is complete or absent, and readable by its owner alone. Raises UsageError if a file exists and
    `overwrite` is not set, if a library is missing, or if the format cannot hold the annotations; OSError if a file cannot be
    written.
    """
    paths = files_of(path, format)
    check_absent(paths, overwrite=overwrite)
    contents = _contents(path, chosen(annotations, format, tiers), format, media)
    for one, content in zip(paths, contents, strict=True):
        with private_file(one) as file:
            file.write(content)
    return paths


def chosen(annotations: Annotations, kind: AnnotationFormat, tiers: Sequence[Tier] | None) -> Annotations:
    """Return the annotations of these tiers; of None, those that the format has by default."""
    wanted = tiers or ((EXPRESSION,) if kind in ("vtt", "srt") else TIERS)
    return dataclasses.replace(annotations, tracks=tuple(track for track in annotations.tracks if track.tier in wanted))


def _contents(path: Path, annotations: Annotations, kind: AnnotationFormat, media: Path | None) -> list[bytes]:
    if kind == "elan":
        return [eaf(annotations, media, path)]
    if kind == "bids":
        return [events_tsv(annotations), events_json(annotations)]
    return [WRITERS[kind](annotations)]  # one file that depends on the annotations alone


def files_of(path: Path, kind: AnnotationFormat) -> list[Path]:
    """Return the files that are written for `path`. Raises UsageError for a BIDS table of another suffix than .tsv."""
    if kind == "bids" and path.suffix != ".tsv":
        raise UsageError(f"{path}: a BIDS table is a .tsv file, such as sub-01_task-film_events.tsv")
    return [path, path.with_suffix(".json")] if kind == "bids" else [path]


def check_absent(paths: list[Path], *, overwrite: bool = False, remedy: str = "remove it or write to another folder") -> None:
    """Raise UsageError if a file exists or its folder does not."""
    for path in paths:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists and stays as it is; {remedy}")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")


def check_library(kind: AnnotationFormat) -> None:
    """Raise UsageError if the library of a format is not installed."""
    if kind in LIBRARIES:
        load(LIBRARIES[kind])
