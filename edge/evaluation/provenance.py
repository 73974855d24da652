"""Which commit of moodring an evaluation was made by."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commit() -> str | None:
    """Return the commit that this source stands on; None where it is installed rather than checked out."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(("git", *arguments), cwd=HERE, capture_output=True, text=True, check=False)  # noqa: S603, S607
    except OSError:
        return None
    return (done.stdout.strip() or None) if done.returncode == 0 else None
