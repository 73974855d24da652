"""Annotation files of several inputs, beside each recording or in one folder, for `moodring analyze`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from moodring.address import is_url
from moodring.analysis.annotations.files import (
    SUFFIXES,
    AnnotationFormat,
    check_absent,
    check_library,
    files_of,
    write_annotations,
)
from moodring.analysis.annotations.intervals import annotate_rows
from moodring.analysis.inputs import IMAGE_SUFFIXES
from moodring.analysis.result import Analysis
from moodring.errors import MoodringError, UsageError, printable


class AnnotationFiles:
    """Writes the annotations of each input in every format. The names follow from all inputs, not from their order.

    A file has the name of its recording with another suffix, and the whole name where two recordings differ in the suffix
    alone. Raises UsageError if a library is missing, if the folder does not exist, or if two files would have one name.
    """

    def __init__(self, formats: Sequence[AnnotationFormat], folder: Path | None, inputs: Iterable[str]) -> None:
        for kind in formats:
            check_library(kind)
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{folder} is not a folder; make it first, or name another with --annotations")
        self._formats, self._folder = formats, folder
        paths = [Path(one) for one in inputs if not _has_no_place(one) and not _is_image(one)] if formats else []
        self._shared = Counter(self._place(path, path.stem) for path in paths)
        wholes: dict[Path, Path] = {}
        for path in paths:
            base = self._base(path)
            if base in wholes:
                raise UsageError(
                    f"{wholes[base]} and {path} would have the same annotation file in {folder}; analyse them one after the "
                    "other with different folders, or write beside each recording (without --annotations)"
                )
            wholes[base] = path

    def _place(self, path: Path, name: str) -> Path:
        return (self._folder or path.parent) / name

    def _base(self, path: Path) -> Path:
        alone = self._place(path, path.stem)
        return alone if self._shared[alone] == 1 else self._place(path, path.name)

    def _files(self, source: str) -> list[tuple[AnnotationFormat, Path]]:
        if self._formats and _has_no_place(source) and self._folder is None:
            raise UsageError(f"{printable(source)} has no folder for annotations; name one with --annotations")
        address = urlsplit(source).path if is_url(source) else source
        name = self._base(Path(source)) if not _has_no_place(source) else self._place(Path(), Path(address).stem or "input")
        return [(kind, name.with_name(name.name + SUFFIXES[kind])) for kind in self._formats]

    def check(self, source: str) -> None:
        """Raise UsageError if a file of this input exists, or if its folder cannot be read."""
        for kind, path in () if _is_image(source) else self._files(source):
            try:
                check_absent(files_of(path, kind))
            except OSError as error:
                raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error

    def write(self, source: str, analysis: Analysis) -> None:
        """Write the annotations of a recording; an image has none. Raises MoodringError if a file cannot be written."""
        if analysis.kind == "image":
            return
        annotations = annotate_rows(analysis.rows, source)
        media = None if _has_no_place(source) else Path(source)
        for kind, path in self._files(source):
            try:
                write_annotations(path, annotations, kind, media=media)
            except OSError as error:
                raise MoodringError(f"{path} cannot be written: {error.strerror or error}") from error


def _is_image(source: str) -> bool:
    return Path(source).suffix.lower() in IMAGE_SUFFIXES


def _has_no_place(source: str) -> bool:
    """Return whether a source is a URL, standard input or another descriptor: nothing can be written beside it."""
    return is_url(source) or source.startswith(("/dev/", "/proc/"))
