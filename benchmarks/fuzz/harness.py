"""What is fuzzed: a check of one input, with seeds, words and an optional mutator."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# In the order of their runs: two run at a time, the slow ones first.
HARNESSES = {
    "media": "benchmarks.fuzz.harnesses.media",
    "bundle": "benchmarks.fuzz.harnesses.bundle",
    "config": "benchmarks.fuzz.harnesses.configuration",
    "events": "benchmarks.fuzz.harnesses.events",
    "page": "benchmarks.fuzz.harnesses.page",
    "mjpeg": "benchmarks.fuzz.harnesses.mjpeg",
}

CURRENT, CORPUS, WORDS = "current", "corpus", "words.txt"  # files of a child: the input that runs, all inputs, the words

Mutator = Callable[[bytes, random.Random], bytes]


class BrokenRuleError(AssertionError):
    """The product broke a rule of its documentation without raising an exception."""


@dataclass(frozen=True)
class Harness:
    """`check` raises on a finding. `words` are byte sequences that the mutator inserts.

    `mutate` changes the structure of an input. It is used for half of the mutations, libFuzzer's own for the others.
    """

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    mutate: Mutator | None = None
    max_bytes: int = 4096


def make(module: str, folder: Path) -> Harness:
    """Return the harness of a module. `folder` is for its files."""
    harness: Harness = importlib.import_module(module).make(folder)
    return harness


def require(is_right: bool, rule: str) -> None:
    """Raise BrokenRuleError with the rule that is broken."""
    if not is_right:
        raise BrokenRuleError(rule)
