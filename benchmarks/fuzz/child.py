"""The process that runs one harness under libFuzzer: `python -m benchmarks.fuzz.child MODULE FOLDER WORK [libFuzzer options]`.

Only moodring's own modules are instrumented. The file `current` in WORK always holds the input of the running check, also if
a signal ends the process.
"""

from __future__ import annotations

import os
import random
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import atheris

from benchmarks.fuzz import harness as harnesses
from benchmarks.fuzz.harness import CORPUS, CURRENT, WORDS, Harness, Mutator

FAILED = 3  # exit code: the mutator of the harness raised


def main(argv: list[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    module, folder, work, *options = argv
    with atheris.instrument_imports(include=["moodring"]):
        harness = harnesses.make(module, Path(work))
    write_seeds(harness, Path(folder))
    words = [f"-dict={Path(folder) / WORDS}"] if harness.words else []  # an empty one is an error
    arguments = [sys.argv[0], *options, *words, f"-max_len={harness.max_bytes}"]
    mutator = {} if harness.mutate is None else {"custom_mutator": _mutator(harness.mutate)}
    atheris.Setup(arguments, recorded(harness, Path(work) / CURRENT), **mutator)
    atheris.Fuzz()


def write_seeds(harness: Harness, folder: Path) -> None:
    """Write the seeds into the corpus, unless an earlier process did, and the dictionary of words."""
    corpus = folder / CORPUS
    if not corpus.exists():
        corpus.mkdir()
        for number, seed in enumerate(harness.seeds):
            (corpus / f"seed_{number:03}").write_bytes(seed)
    lines = ['"{}"\n'.format("".join(f"\\x{byte:02x}" for byte in word)) for word in harness.words]
    (folder / WORDS).write_text("".join(lines), encoding="ascii")


def recorded(harness: Harness, path: Path) -> Callable[[bytes], None]:
    """Return the check of a harness, which first writes its input to a file."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)

    def check(data: bytes) -> None:
        os.pwrite(file, data, 0)
        os.ftruncate(file, len(data))
        harness.check(data)

    return check


def _mutator(mutate: Mutator) -> Callable[[bytes, int, int], bytes]:
    def mutator(data: bytes, max_bytes: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, max_bytes))
        mutated = None
        try:
            mutated = mutate(data, rng)
        finally:
            if mutated is None:
                traceback.print_exc()
                os._exit(FAILED)  # libFuzzer would go on without its handlers of signals and die of its own timer
        return mutated if len(mutated) <= max_bytes else bytes(atheris.Mutate(data, max_bytes))

    return mutator


if __name__ == "__main__":
    main(sys.argv[1:])
