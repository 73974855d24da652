"""The loaded networks that the evaluations share, and their progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import rich.progress
from rich.console import Console

from moodring.fusion import Fuser, Method, open_fuser
from moodring.inference.branches import FaceBranch, SpeechBranch
from moodring.inference.bundle import BackendName, Bundle, Precision

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Engine:
    """A bundle with the precision and backend to evaluate."""

    bundle: Bundle
    precision: Precision
    backend: BackendName

    def face(self, head: str) -> FaceBranch:
        return FaceBranch(self.bundle.open("face", self.precision, self.backend), self.bundle.models["face"], head)

    def speech(self) -> SpeechBranch:
        return SpeechBranch(self.bundle.open("speech", self.precision, self.backend), self.bundle.models["speech"])

    def fuser(self, method: Method, head: str) -> Fuser:
        return open_fuser(self.bundle, method, self.precision, self.backend, head=head)


def progress(items: Sequence[T], description: str) -> Iterator[T]:
    """Iterate with a bar on a terminal, and with one plain line elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from rich.progress.track(items, description, console=console)
        return
    print(f"{description}: {len(items)}", file=sys.stderr, flush=True)
    yield from items
