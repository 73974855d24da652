"""The bundle under evaluation, and the progress bar of long evaluations."""

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

SEED = 0  # of everything that an evaluation draws at random, unless its figures name another seed


@dataclass(frozen=True, slots=True)
class Engine:
    """A bundle with the precision and backend to evaluate. Each method loads its networks again."""

    bundle: Bundle
    precision: Precision
    backend: BackendName

    def face_branch(self, head: str) -> FaceBranch:
        """Return the face branch that reads the output `head` of the face network: official or ferplus."""
        return FaceBranch(self.bundle.open("face", self.precision, self.backend), self.bundle.models["face"], head)

    def speech_branch(self) -> SpeechBranch:
        return SpeechBranch(self.bundle.open("speech", self.precision, self.backend), self.bundle.models["speech"])

    def fuser(self, method: Method, head: str) -> Fuser:
        """Return the fuser of this method for the outputs of `head` of the face network."""
        return open_fuser(self.bundle, method, self.precision, self.backend, head=head)


def progress(items: Sequence[T], description: str) -> Iterator[T]:
    """Yield the items with a progress bar on a terminal; elsewhere print one line. Both go to standard error."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from rich.progress.track(items, description, console=console)
        return
    print(f"{description}: {len(items)}", file=sys.stderr, flush=True)
    yield from items
