"""The entries of bundle.json: files of networks, which are verified, and numbers."""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from moodring.address import file_mode
from moodring.errors import BundleError


def verify_file(folder: Path, entry: dict[str, Any]) -> Path:
    """Return the file that an entry names, {"path", "sha256"}. It must lie in the folder of the bundle and have that hash."""
    name, sha256 = text(entry["path"]), text(entry["sha256"])
    parts = PurePath(name).parts
    if not parts or ".." in parts or PurePath(name).is_absolute():
        raise BundleError(f"bundle {folder} names the file {name!r}, which is not in its folder; export it again")
    file = folder / name
    mode = file_mode(str(file))
    if mode and not stat.S_ISREG(mode):  # a pipe would never end
        raise BundleError(f"{file} cannot be read (it is not a file); restore it or export again")
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{file} cannot be read ({error.strerror}); restore it or export again") from error
    if found != sha256:
        raise BundleError(
            f"{file} is not the file that the bundle was made with (sha256 {found[:12]}, expected {sha256[:12]}); "
            "restore it or export again"
        )
    return file


def verify_ir(folder: Path, entry: dict[str, Any]) -> Path:
    """Verify both files of a network in OpenVINO's format; return the .xml file."""
    xml, weights = (verify_file(folder, entry[part]) for part in ("xml", "bin"))
    if weights != xml.with_suffix(".bin"):
        raise BundleError(f"bundle {folder}: {xml.name} and {weights.name} do not belong together; export it again")
    return xml


def text(value: Any) -> str:
    """Return a text. Raises ValueError for another type."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")  # noqa: TRY004  one kind of error for all wrong values
    return value


def number(value: Any, maximum: float = math.inf) -> float:
    """Return a finite number from 0 to `maximum`. Raises ValueError for another value."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= maximum or value == math.inf:
        raise ValueError(f"{value!r} is not a number from 0 to {maximum:g}")
    return float(value)


def numbers_by_head(data: Any, names: Sequence[str]) -> dict[str, dict[str, float]] | None:
    """Return the numbers of these names for each output of the fusion network; None if the bundle has none.

    Raises ValueError if one of them is missing or wrong, or if all of them are 0.
    """
    if data is None:
        return None
    found = {head: {name: number(values[name]) for name in names} for head, values in data.items()}
    if not all(any(values.values()) for values in found.values()):
        raise ValueError(f"{' and '.join(names)} are 0")
    return found
