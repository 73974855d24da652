"""The commit of moodring that produced a result."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commit() -> str | None:
    """Return the git commit hash of this source tree; None if moodring is installed without its repository."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(("git", *arguments), cwd=HERE, capture_output=True, text=True, check=False)  # noqa: S603, S607
    except OSError:
        return None
    return (done.stdout.strip() or None) if done.returncode == 0 else None
