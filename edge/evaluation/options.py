"""The command line of `moodring evaluate`. The evaluation code, with NumPy and OpenCV, is imported only when one runs."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from moodring.arguments import actors, floats, frozen, listed, whole

PRECISIONS = ("fp32", "fp16", "int8")
BACKENDS = ("onnx", "openvino")
METHODS = ("feature", "weighted", "voting")
SPLITS = ("Training", "PublicTest", "PrivateTest")


def add_evaluate(commands: Any) -> None:
    """Add `evaluate` and its subcommands to the subparsers of the command line."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a bundle on published data (needs no torch)",
        description="Run a bundle on a published data set and write accuracy, calibration and confusion matrix as JSON.",
    )
    kinds = evaluate.add_subparsers(required=True, metavar="WHAT", dest="what")
    _add_face(kinds)
    _add_speech(kinds)
    stream = kinds.add_parser(
        "stream", help="RAVDESS speech through the pipeline of the daemon; the result of a clip is its most frequent label"
    )
    _add_ravdess(stream)
    _add_fusion(kinds)
    video = kinds.add_parser("video", help="RAVDESS videos (01-01-*.mp4), true pairs, through the pipeline of the daemon")
    _add_ravdess(video)
    _add_method(video)
    for kind in kinds.choices.values():
        kind.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the bundled one)")
        kind.add_argument("--json", type=Path, required=True, metavar="FILE", help="write the figures to this file")
        kind.add_argument("--precision", choices=PRECISIONS, default="fp32")
        kind.add_argument("--backend", choices=BACKENDS, default="onnx")
    evaluate.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    run = importlib.import_module("moodring.evaluation.run")
    return int(run.evaluate(frozen(run.EvaluateOptions, arguments)))


def _add_face(kinds: Any) -> None:
    face = kinds.add_parser(
        "face", help="FER2013 (official and FER+ labels), photographs in class folders, or images without people"
    )
    source = face.add_mutually_exclusive_group(required=True)
    source.add_argument("--fer2013", type=Path, metavar="CSV", help="fer2013.csv")
    source.add_argument(
        "--images", type=Path, metavar="DIR", help="class folders of photographs; faces are detected and cropped"
    )
    source.add_argument("--nonfaces", type=Path, nargs="+", metavar="FILE", help="images and videos without people")
    face.add_argument("--robustness", action="store_true", help="with --fer2013: accuracy under each corruption instead")
    face.add_argument("--ferplus", type=Path, metavar="CSV", help="fer2013new.csv, for the ferplus label set")
    _add_split(face)


def _add_speech(kinds: Any) -> None:
    speech = kinds.add_parser(
        "speech", help="a corpus of speech; the result of a clip is that of the window with the most voice"
    )
    source = speech.add_mutually_exclusive_group(required=True)
    source.add_argument("--ravdess", type=Path, metavar="DIR", help="folder of Actor_NN folders")
    source.add_argument("--tess", type=Path, metavar="DIR", help="folder of TESS recordings (two speakers)")
    source.add_argument(
        "--corpus",
        type=Path,
        metavar="DIR",
        help="folder with manifest.csv (path,speaker,label), or RAVDESS or TESS; any speakers and classes",
    )
    _add_actors(speech)
    speech.add_argument("--speakers", type=listed, metavar="LIST", help="with --corpus: speakers to evaluate (default: all)")
    speech.add_argument(
        "--baseline",
        action="store_true",
        help="with --corpus: the clips of a speaker one after the other, in a random order, with a baseline of the speaker",
    )
    speech.add_argument(
        "--robustness", action="store_true", help="with --ravdess: accuracy under each corruption instead; with --corpus: also"
    )
    speech.add_argument("--noise", type=Path, metavar="DIR", help="also mix in each recording of this folder")
    speech.add_argument("--snr", type=floats, default=(20.0, 10.0, 5.0, 0.0), metavar="LIST", help="dB: 20,10,5,0")
    speech.add_argument("--clips", action="store_true", help="also write the probabilities of each clip")


def _add_fusion(kinds: Any) -> None:
    fusion = kinds.add_parser("fusion", help="pairs of a FER2013 image and a RAVDESS clip with one label (different people)")
    fusion.add_argument("--fer2013", type=Path, required=True, metavar="CSV")
    fusion.add_argument("--ferplus", type=Path, metavar="CSV", help="fer2013new.csv: also pairs by the FER+ majority labels")
    _add_split(fusion)
    _add_ravdess(fusion)
    fusion.add_argument("--pairs", type=whole(1), default=4000, metavar="N")
    fusion.add_argument("--seed", type=whole(0), default=0, metavar="K")
    _add_method(fusion)


def _add_split(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--split", choices=SPLITS, default="PublicTest")


def _add_ravdess(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--ravdess", type=Path, required=True, metavar="DIR", help="folder of Actor_NN folders")
    _add_actors(kind)


def _add_actors(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--actors", type=actors, metavar="LIST", help="actors to evaluate, such as 1,2 (default: all)")


def _add_method(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--method", choices=METHODS, default="feature")
