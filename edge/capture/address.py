"""What a source's name says by itself: a file, or an address."""

from __future__ import annotations

from pathlib import Path

from moodring.errors import UsageError


def is_url(source: str) -> bool:
    return "://" in source


def check_path(source: str) -> None:
    """Raise UsageError where a named file cannot even be tried."""
    if is_url(source):
        return
    path = Path(source)
    if not path.exists():
        raise UsageError(f"{source}: no such file")
    if path.is_dir():
        raise UsageError(f"{source} is a directory; name a media file or a stream URL")
