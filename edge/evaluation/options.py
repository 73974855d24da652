"""The options of `moodring evaluate`: nothing heavy is imported until an evaluation runs."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from moodring.arguments import actors, floats, frozen, whole

PRECISIONS = ("fp32", "fp16", "int8")
BACKENDS = ("onnx", "openvino")


def add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a bundle on published data (needs no torch)",
        description="Run a bundle over a data set as published and write accuracy, calibration and confusion as JSON.",
    )
    kinds = evaluate.add_subparsers(required=True, metavar="WHAT", dest="what")
    face = kinds.add_parser(
        "face", help="FER2013 (official and FER+ labels), photographs in class folders, or pictures of nobody"
    )
    source = face.add_mutually_exclusive_group(required=True)
    source.add_argument("--fer2013", type=Path, metavar="CSV", help="fer2013.csv")
    source.add_argument("--images", type=Path, metavar="DIR", help="class folders, read through detection and crop")
    source.add_argument("--nonfaces", type=Path, nargs="+", metavar="FILE", help="pictures and clips in which nobody is")
    face.add_argument("--robustness", action="store_true", help="with --fer2013: the accuracy under each disturbance instead")
    face.add_argument("--ferplus", type=Path, metavar="CSV", help="fer2013new.csv, for the ferplus label set")
    _add_split(face)
    for name, text in (
        ("speech", "RAVDESS speech, a clip's answer being that of the window that holds most voice, or TESS"),
        ("stream", "the same clips through the daemon's path, the majority of a clip's events"),
    ):
        kind = kinds.add_parser(name, help=text)
        if name == "stream":
            _add_ravdess(kind)
        else:
            voices = kind.add_mutually_exclusive_group(required=True)
            voices.add_argument("--ravdess", type=Path, metavar="DIR", help="folder of Actor_NN folders")
            voices.add_argument("--tess", type=Path, metavar="DIR", help="folder of TESS recordings: two speakers only")
            _add_actors(kind)
            kind.add_argument(
                "--robustness", action="store_true", help="with --ravdess: the accuracy under each disturbance instead"
            )
            kind.add_argument("--noise", type=Path, metavar="DIR", help="mix each recording of this folder in as well")
            kind.add_argument("--snr", type=floats, default=(20.0, 10.0, 5.0, 0.0), metavar="LIST", help="dB: 20,10,5,0")
            kind.add_argument("--clips", action="store_true", help="write each clip's probabilities as well")
    fusion = kinds.add_parser("fusion", help="pairs by class of FER2013 pictures and RAVDESS clips (different people)")
    fusion.add_argument("--fer2013", type=Path, required=True, metavar="CSV")
    fusion.add_argument("--ferplus", type=Path, metavar="CSV", help="fer2013new.csv: pairs by its majority as well")
    _add_split(fusion)
    _add_ravdess(fusion)
    fusion.add_argument("--pairs", type=whole(1), default=4000, metavar="N")
    fusion.add_argument("--seed", type=whole(0), default=0, metavar="K")
    video = kinds.add_parser("video", help="RAVDESS videos (01-01-*.mp4), true pairs, through the daemon's path")
    _add_ravdess(video)
    for kind in (fusion, video):
        kind.add_argument("--method", choices=("feature", "weighted", "voting"), default="feature")
    for kind in kinds.choices.values():
        kind.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the one that ships)")
        kind.add_argument("--json", type=Path, required=True, metavar="FILE", help="write the figures here")
        kind.add_argument("--precision", choices=PRECISIONS, default="fp32")
        kind.add_argument("--backend", choices=BACKENDS, default="onnx")
    evaluate.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    run = importlib.import_module("moodring.evaluation.run")
    return int(run.evaluate(frozen(run.EvaluateOptions, arguments)))


def _add_split(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--split", choices=("Training", "PublicTest", "PrivateTest"), default="PublicTest")


def _add_ravdess(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--ravdess", type=Path, required=True, metavar="DIR", help="folder of Actor_NN folders")
    _add_actors(kind)


def _add_actors(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--actors", type=actors, metavar="LIST", help="only these, such as 1,2 (default: all there are)")
