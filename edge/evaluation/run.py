"""`moodring evaluate`: run a bundle over published data with the runtime's own code, print the figures, write them as JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.table import Table

from moodring import __version__
from moodring.errors import UsageError
from moodring.evaluation import face, fusion, nonfaces, speech, stream, video
from moodring.evaluation.engine import Engine
from moodring.evaluation.provenance import commit
from moodring.fusion import Method
from moodring.inference import bundle as bundles
from moodring.inference.bundle import BackendName, Precision
from moodring.labels import LABELS

FIGURES = ("n", "refused", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece")


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The command line of `moodring evaluate`; a field that its subcommand does not have keeps its default."""

    what: str
    json: Path
    bundle: str = "default"
    precision: Precision = "fp32"
    backend: BackendName = "onnx"
    fer2013: Path | None = None
    ferplus: Path | None = None
    split: str = "PublicTest"
    images: Path | None = None
    nonfaces: Sequence[Path] | None = None
    robustness: bool = False
    ravdess: Path | None = None
    actors: tuple[int, ...] | None = None
    tess: Path | None = None
    noise: Path | None = None
    snr: tuple[float, ...] = ()
    clips: bool = False
    pairs: int = 4000
    seed: int = 0
    method: Method = "feature"


def evaluate(arguments: EvaluateOptions) -> int:
    """Run one evaluation, print its main figures and write all of them to --json."""
    cv2.setNumThreads(1)
    _make_room(arguments.json)
    whole = arguments.what in ("fusion", "video")
    needed = ("speech",) if arguments.what == "stream" else bundles.MODELS if whole else (arguments.what,)
    bundle = bundles.load(bundles.resolve(arguments.bundle), needed)
    if bundle.labels != LABELS:
        raise UsageError(
            f"bundle {bundle.path} answers {', '.join(bundle.labels)}; the data sets here have moodring's own labels"
        )
    engine = Engine(bundle, arguments.precision, arguments.backend)
    if arguments.what == "face":
        figures = _face(engine, arguments)
    elif arguments.what == "speech":
        figures = _speech(engine, arguments)
    elif arguments.what == "video":
        figures = video.evaluate_videos(engine, arguments.ravdess, arguments.actors, arguments.method)
    elif arguments.what == "stream":
        figures = stream.evaluate_ravdess(engine, arguments.ravdess, arguments.actors)
    else:
        figures = fusion.evaluate_pairs(
            engine,
            fusion.Pairing(arguments.fer2013, arguments.split, arguments.ravdess, arguments.actors, arguments.ferplus),
            pairs=arguments.pairs,
            seed=arguments.seed,
            method=arguments.method,
        )
    header = {
        "what": arguments.what,
        "bundle": bundle.id,
        "precision": arguments.precision,
        "backend": arguments.backend,
        "moodring": __version__,
        "command": _command(sys.argv[1:]),
        "commit": commit(),
        "seed": 0,  # of all that is drawn, unless the figures name another
    }
    _write(arguments.json, header | figures)
    _print(header | figures)
    return 0


def _face(engine: Engine, given: EvaluateOptions) -> dict[str, Any]:
    if given.images:
        return face.evaluate_photographs(engine, given.images)
    if given.nonfaces:
        return nonfaces.evaluate_nonfaces(engine, given.nonfaces)
    if given.robustness:
        return face.evaluate_robustness(engine, given.fer2013, given.ferplus, given.split)
    return face.evaluate_fer2013(engine, given.fer2013, given.ferplus, given.split)


def _speech(engine: Engine, given: EvaluateOptions) -> dict[str, Any]:
    if given.tess:
        if given.robustness or given.noise or given.actors:
            raise UsageError("--robustness, --noise and --actors go with --ravdess")
        return speech.evaluate_tess(engine, given.tess)
    if given.robustness:
        return speech.evaluate_robustness(engine, given.ravdess, given.actors)
    return speech.evaluate_ravdess(engine, given.ravdess, given.actors, given.noise, given.snr, clips=given.clips)


def _command(arguments: list[str]) -> str:
    """Return the command with the names of files, not where they lie."""
    return shlex.join(["moodring", *(Path(a).name if "/" in a else a for a in arguments)])


def _make_room(path: Path) -> None:
    """Raise UsageError before the minutes of work rather than after them."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the figures cannot be written to {path}: {error.strerror}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"the figures cannot be written to {path}: it is a directory, or its folder may not be written to")


def _write(path: Path, figures: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the figures cannot be written to {path}: {error.strerror}") from error


def _print(figures: dict[str, Any]) -> None:
    table = Table("figure", "value", title=f"{figures['what']}: bundle {figures['bundle']}, {figures['precision']}")
    for name in FIGURES:
        if (value := figures.get(name)) is None:
            continue
        table.add_row(name, str(value) if name == "n" else f"{100 * value:.2f} %")
    for name, disturbed in figures.get("by_disturbance", {}).items():
        for strength, found in disturbed["by_strength"].items():
            heads = ", ".join(f"{head} {100 * found[head]:.2f} %" for head in ("official", "ferplus", "voice") if head in found)
            table.add_row(f"{name} {strength} {disturbed['unit']}".rstrip(), heads)
    Console(stderr=True).print(table)
