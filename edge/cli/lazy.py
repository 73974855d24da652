"""Imports on demand: a subcommand imports what it needs when it runs, so that the others start without it."""

from __future__ import annotations

import importlib
from typing import Any

from moodring.errors import UsageError


def lazy(name: str) -> Any:
    """Return a module of moodring by its name below the package."""
    return importlib.import_module(f"moodring.{name}")


def extra(name: str) -> Any:
    """Return moodring.train.run or moodring.export.run. Raises UsageError where the extra `name` is not installed."""
    try:
        return lazy(f"{name}.run")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "moodring":
            raise
        raise UsageError(f"`moodring {name}` needs {error.name}: pip install 'moodring[{name}]'") from error
