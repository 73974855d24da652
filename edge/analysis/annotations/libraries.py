"""Libraries of the extra `formats`, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from moodring.errors import UsageError


def load(name: str) -> Any:
    """Return a module. Raises UsageError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"this format needs {error.name}: pip install 'moodring[formats]'") from error
