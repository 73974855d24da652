"""The files that paths, patterns and folders on a command line name."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import NoReturn

from moodring.address import file_mode, is_url
from moodring.errors import UsageError, printable
from moodring.run.sources import MEDIA_SUFFIXES

IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
})  # fmt: skip
FOLDER_SUFFIXES = MEDIA_SUFFIXES | IMAGE_SUFFIXES | {".3gp", ".aif", ".aiff", ".flv", ".m2ts", ".mts", ".oga", ".ogv", ".vob"}


def expand(named: str) -> list[str]:
    """Return the files that one argument names, in the order of their names.

    A folder stands for the images, recordings and sounds in it and in its folders, by their suffix, but not for hidden files.
    A name with wildcards that is no file itself is a pattern, in which ** stands for any folders. Another name is returned as
    it is, whether it exists or not. Raises UsageError if a folder or a pattern names nothing, or a folder cannot be read.
    """
    if is_url(named):
        return [named]
    if Path(named).is_dir():
        return _files_in(named)
    if file_mode(named) or not glob.has_magic(named):
        return [named]
    found = sorted(glob.glob(named, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
    if not found:
        raise UsageError(f"{printable(named)}: no file matches this pattern")
    return [file for path in found for file in (_media_files(path) if Path(path).is_dir() else [path])]


def _files_in(folder: str) -> list[str]:
    files = _media_files(folder)
    if not files:
        raise UsageError(f"{printable(folder)} contains no image, recording or sound; name its files to analyse others")
    return files


def _media_files(folder: str) -> list[str]:
    files = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [
            str(Path(place) / name)
            for name in sorted(names)
            if not name.startswith(".") and Path(name).suffix.lower() in FOLDER_SUFFIXES and Path(place, name).is_file()
        ]
    return files


def _refuse(error: OSError) -> NoReturn:
    raise UsageError(f"{printable(str(error.filename))} cannot be read ({error.strerror}); check its permissions") from error
