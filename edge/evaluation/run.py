"""`moodring evaluate`: run a bundle on published data with the code of the runtime; print and write the figures."""

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
from moodring.evaluation.corpora.evaluate import CorpusOptions, evaluate_corpus
from moodring.evaluation.engine import SEED, Engine
from moodring.evaluation.provenance import commit
from moodring.fusion import Method
from moodring.inference import bundle as bundles
from moodring.inference.bundle import BackendName, Precision
from moodring.labels import LABELS

PRINTED_METRICS = ("n", "refused", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece")

NOT_GIVEN = Path()  # default of a path that the command line requires for the evaluations that use it


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The command line of `moodring evaluate`; a field without a flag in its subcommand keeps its default."""

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
    corpus: Path | None = None
    speakers: tuple[str, ...] | None = None
    baseline: bool = False
    noise: Path | None = None
    snr: tuple[float, ...] = ()
    clips: bool = False
    pairs: int = 4000
    seed: int = 0
    method: Method = "feature"


def evaluate(options: EvaluateOptions) -> int:
    """Run one evaluation, print its main figures and write all figures to `options.json`; return the exit code.

    Raises UsageError if the file is not writable or the bundle has other labels, and DataError for damaged data.
    """
    cv2.setNumThreads(1)
    _check_writable(options.json)
    needs_fusion = options.what in ("fusion", "video")
    required = ("speech",) if options.what == "stream" else bundles.MODELS if needs_fusion else (options.what,)
    bundle = bundles.load(bundles.resolve(options.bundle), required)
    if bundle.labels != LABELS and not options.corpus:
        raise UsageError(
            f"bundle {bundle.path} has the labels {', '.join(bundle.labels)}; the data sets need a bundle with the labels "
            f"{', '.join(LABELS)}"
        )
    figures = _measure(Engine(bundle, options.precision, options.backend), options)
    header = {
        "what": options.what,
        "bundle": bundle.id,
        "precision": options.precision,
        "backend": options.backend,
        "moodring": __version__,
        "command": _anonymize_command(sys.argv[1:]),
        "commit": commit(),
        "seed": SEED,
    }
    _write(options.json, header | figures)
    _print(header | figures)
    return 0


def _measure(engine: Engine, options: EvaluateOptions) -> dict[str, Any]:
    if options.what == "face":
        return _evaluate_face(engine, options)
    if options.what == "speech":
        return _evaluate_speech(engine, options)
    if options.what == "video":
        return video.evaluate_videos(engine, options.ravdess, options.actors, options.method)
    if options.what == "stream":
        return stream.evaluate_ravdess(engine, options.ravdess, options.actors)
    pairing = fusion.Pairing(options.fer2013, options.split, options.ravdess, options.actors, options.ferplus)
    return fusion.evaluate_pairs(engine, pairing, pairs=options.pairs, seed=options.seed, method=options.method)


def _evaluate_face(engine: Engine, options: EvaluateOptions) -> dict[str, Any]:
    if options.images:
        return face.evaluate_photographs(engine, options.images)
    if options.nonfaces:
        return nonfaces.evaluate_nonfaces(engine, options.nonfaces)
    if options.robustness:
        return face.evaluate_robustness(engine, options.fer2013, options.ferplus, options.split)
    return face.evaluate_fer2013(engine, options.fer2013, options.ferplus, options.split)


def _evaluate_speech(engine: Engine, options: EvaluateOptions) -> dict[str, Any]:
    if options.corpus:
        if options.actors:
            raise UsageError("--actors needs --ravdess; --corpus has --speakers")
        selection = CorpusOptions(
            folder=options.corpus,
            speakers=options.speakers,
            baseline=options.baseline,
            clips=options.clips,
            noise=options.noise,
            snr_db=options.snr,
            robustness=options.robustness,
        )
        return evaluate_corpus(engine, selection)
    if options.speakers or options.baseline:
        raise UsageError("--speakers and --baseline need --corpus")
    if options.tess:
        if options.robustness or options.noise or options.actors:
            raise UsageError("--robustness, --noise and --actors need --ravdess, not --tess")
        return speech.evaluate_tess(engine, options.tess)
    if options.robustness:
        return speech.evaluate_robustness(engine, options.ravdess, options.actors)
    return speech.evaluate_ravdess(engine, options.ravdess, options.actors, options.noise, options.snr, clips=options.clips)


def _anonymize_command(arguments: list[str]) -> str:
    """Return the command line with file names instead of paths."""
    return shlex.join(["moodring", *(Path(a).name if "/" in a else a for a in arguments)])


def _check_writable(path: Path) -> None:
    """Raise UsageError before the evaluation, which takes minutes, if its figures cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the figures cannot be written to {path}: {error.strerror}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"the figures cannot be written to {path}: it is a directory, or its folder is not writable")


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
    for name in PRINTED_METRICS if "present" in figures else ():
        if name in figures["present"] and name != "n":
            table.add_row(f"present {name}", f"{100 * figures['present'][name]:.2f} %")
    if "answers" in figures and (other := figures["answers"]["windows"]["not_neutral_or_calm"]) is not None:
        table.add_row("windows not neutral or calm", f"{100 * other:.2f} %")
    for name, corruption in figures.get("by_disturbance", {}).items():
        for strength, accuracies in corruption["by_strength"].items():
            heads = [head for head in ("official", "ferplus", "voice") if head in accuracies]
            text = ", ".join(f"{head} {100 * accuracies[head]:.2f} %" for head in heads)
            table.add_row(f"{name} {strength} {corruption['unit']}".rstrip(), text)
    Console(stderr=True).print(table)
