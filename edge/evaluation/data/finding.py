"""The result of the verification of one data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["complete", "partial", "absent", "damaged"]
MIN_DURATION_S = 1.0  # of a recording


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one data set. `notes` are lines of text for the user, `faults` the list of all that is wrong."""

    name: str
    verdict: Verdict
    notes: tuple[str, ...]
    faults: tuple[str, ...] = ()
