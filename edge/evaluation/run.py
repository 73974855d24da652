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

PRINTED_METRICS = ("n", "refused", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece")


NOT_GIVEN = Path()  # of a path that the command line requires where it is used


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The command line of `moodring evaluate`; a field that its subcommand does not have keeps its default."""

    what: str
    json: Path
    bundle: str = "default"
    precision: Precision = "fp32"
    backend: BackendName = "onnx"
    fer2013: Path = NOT_GIVEN
    ferplus: Path | None = None
    split: str = "PublicTest"
    images: Path | None = None
    nonfaces: Sequence[Path] | None = None
    robustness: bool = False
    ravdess: Path = NOT_GIVEN
    actors: tuple[int, ...] | None = None
    tess: Path | None = None
    noise: Path | None = None
    snr: tuple[float, ...] = ()
    clips: bool = False
    pairs: int = 4000
    seed: int = 0
    method: Method = "feature"


def evaluate(options: EvaluateOptions) -> int:
    """Run one evaluation, print its main figures and write all of them to --json."""
    cv2.setNumThreads(1)
    _check_writable(options.json)
    needs_fusion = options.what in ("fusion", "video")
    required = ("speech",) if options.what == "stream" else bundles.MODELS if needs_fusion else (options.what,)
    bundle = bundles.load(bundles.resolve(options.bundle), required)
    if bundle.labels != LABELS:
        raise UsageError(
            f"bundle {bundle.path} answers {', '.join(bundle.labels)}; the data sets here have moodring's own labels"
        )
    engine = Engine(bundle, options.precision, options.backend)
    if options.what == "face":
        figures = _evaluate_face(engine, options)
    elif options.what == "speech":
        figures = _evaluate_speech(engine, options)
    elif options.what == "video":
        figures = video.evaluate_videos(engine, options.ravdess, options.actors, options.method)
    elif options.what == "stream":
        figures = stream.evaluate_ravdess(engine, options.ravdess, options.actors)
    else:
        figures = fusion.evaluate_pairs(
            engine,
            fusion.Pairing(options.fer2013, options.split, options.ravdess, options.actors, options.ferplus),
            pairs=options.pairs,
            seed=options.seed,
            method=options.method,
        )
    header = {
        "what": options.what,
        "bundle": bundle.id,
        "precision": options.precision,
        "backend": options.backend,
        "moodring": __version__,
        "command": _anonymize_command(sys.argv[1:]),
        "commit": commit(),
        "seed": 0,  # of all that is drawn, unless the figures name another
    }
    _write(options.json, header | figures)
    _print(header | figures)
    return 0


def _evaluate_face(engine: Engine, options: EvaluateOptions) -> dict[str, Any]:
    if options.images:
        return face.evaluate_photographs(engine, options.images)
    if options.nonfaces:
        return nonfaces.evaluate_nonfaces(engine, options.nonfaces)
    if options.robustness:
        return face.evaluate_robustness(engine, options.fer2013, options.ferplus, options.split)
    return face.evaluate_fer2013(engine, options.fer2013, options.ferplus, options.split)


def _evaluate_speech(engine: Engine, options: EvaluateOptions) -> dict[str, Any]:
    if options.tess:
        if options.robustness or options.noise or options.actors:
            raise UsageError("--robustness, --noise and --actors go with --ravdess")
        return speech.evaluate_tess(engine, options.tess)
    if options.robustness:
        return speech.evaluate_robustness(engine, options.ravdess, options.actors)
    return speech.evaluate_ravdess(engine, options.ravdess, options.actors, options.noise, options.snr, clips=options.clips)


def _anonymize_command(arguments: list[str]) -> str:
    """Return the command with the names of files, not where they lie."""
    return shlex.join(["moodring", *(Path(a).name if "/" in a else a for a in arguments)])


def _check_writable(path: Path) -> None:
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
    for name in PRINTED_METRICS:
        if (value := figures.get(name)) is None:
            continue
        table.add_row(name, str(value) if name == "n" else f"{100 * value:.2f} %")
    for name, corruption in figures.get("by_disturbance", {}).items():
        for strength, found in corruption["by_strength"].items():
            heads = ", ".join(f"{head} {100 * found[head]:.2f} %" for head in ("official", "ferplus", "voice") if head in found)
            table.add_row(f"{name} {strength} {corruption['unit']}".rstrip(), heads)
    Console(stderr=True).print(table)
