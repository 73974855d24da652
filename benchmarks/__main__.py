"""Run one measurement or experiment: `python -m benchmarks NAME [options]`. Without a name, list them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

# Only the chosen module is imported: Chromium, matplotlib and the other extractors are optional.
MODULES = {
    "aarch64": "benchmarks.aarch64",
    "batch": "benchmarks.batch",
    "check": "benchmarks.check",
    "events": "benchmarks.events.run",
    "faces": "benchmarks.faces.run",
    "faults": "benchmarks.faults",
    "fuzz": "benchmarks.fuzz.run",
    "high_pass": "benchmarks.sound.high_pass",
    "live": "benchmarks.live",
    "media_corpus": "benchmarks.media_corpus",
    "mfcc": "benchmarks.sound.mfcc",
    "page": "benchmarks.page.run",
    "pairs": "benchmarks.pairs",
    "scaling": "benchmarks.scaling",
    "voice_activity": "benchmarks.sound.voice_activity",
    "ablations": "benchmarks.experiments.ablations",
    "face_seeds": "benchmarks.experiments.face_seeds",
    "folds": "benchmarks.experiments.folds",
    "fusion_folds": "benchmarks.experiments.fusion_folds",
    "seeds": "benchmarks.experiments.seeds",
}


def main(argv: Sequence[str]) -> int:
    """Run the named module with the remaining arguments; return its exit code, or 2 for an unknown name."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: python -m benchmarks NAME [options]\n\n{overview()}")
        return 0
    name, *arguments = argv
    if name not in MODULES:
        print(f"python -m benchmarks: no measurement is called {name!r}; choose one of:\n\n{overview()}", file=sys.stderr)
        return 2
    return int(importlib.import_module(MODULES[name]).main(arguments) or 0)


def overview() -> str:
    """Return one line for each measurement: its name and the first sentence of its module's docstring."""
    width = max(map(len, MODULES))
    return "\n".join(f"  {name:{width}}  {_first_sentence(module)}" for name, module in MODULES.items())


def _first_sentence(module: str) -> str:
    """Return the first sentence of a module's docstring, after its usage line, without importing the module."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {module}", name=module)
    paragraphs = (ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or "").split("\n\n")
    description = next((paragraph for paragraph in paragraphs if not paragraph.startswith("usage:")), "")
    return " ".join(description.split()).split(". ")[0].removesuffix(".")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
