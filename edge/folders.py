"""Folders of the user in which moodring stores files: its cache and its state (XDG base directories)."""

from __future__ import annotations

import os
from pathlib import Path

from moodring.errors import UsageError


def cache_dir() -> Path:
    """Return moodring's folder in XDG_CACHE_HOME or ~/.cache. Raises UsageError without a home directory."""
    return _base("XDG_CACHE_HOME", ".cache") / "moodring"


def state_dir() -> Path:
    """Return moodring's folder in XDG_STATE_HOME or ~/.local/state. Raises UsageError without a home directory."""
    return _base("XDG_STATE_HOME", ".local/state") / "moodring"


def _base(variable: str, default: str) -> Path:
    configured = Path(os.environ.get(variable, ""))
    if configured.is_absolute():  # the standard ignores a relative path
        return configured
    try:
        return Path.home() / default
    except RuntimeError as error:
        raise UsageError(
            f"this user has no home directory: HOME is not set and no account has the user id {os.getuid()}; "
            f"set HOME or {variable}"
        ) from error
