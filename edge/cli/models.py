"""Subcommands about data sets and models: data, train, export, sign."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moodring.arguments import names, positive, whole
from moodring.cli.lazy import extra, lazy

CALIBRATION = "minmax,percentile,entropy"


def add_data(commands: Any) -> None:
    data = commands.add_parser(
        "data",
        help="list the data sets, or check a folder of them",
        description="List where each data set is available from and its layout, or check the data sets in a folder.",
    )
    kinds = data.add_subparsers(required=True, metavar="WHAT")
    listed = kinds.add_parser("list", help="source, licence, layout, counts and checksums of each")
    listed.set_defaults(command=lambda _: lazy("evaluation.data.commands").list_datasets())
    verify = kinds.add_parser("verify", help="count and read the data sets in a folder, or a corpus with manifest.csv")
    verify.add_argument("folder", type=Path, metavar="DIR")
    verify.set_defaults(command=lambda a: lazy("evaluation.data.commands").verify_folder(a.folder))


def add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a branch or the fusion (extra: train)",
        description="Train one network from a recipe. An interrupted run resumes; Ctrl-C ends it and keeps the best weights.",
    )
    train.add_argument("kind", choices=("face", "speech", "fusion"))
    train.add_argument("--config", type=Path, required=True, metavar="FILE", help="recipe (see configs/train/)")
    train.add_argument(
        "--data",
        type=Path,
        required=True,
        action="append",
        metavar="DIR",
        help="folder of the data sets; for speech also a corpus with manifest.csv, and once for each of several corpora",
    )
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder: checkpoints, metrics, plots")
    train.set_defaults(command=lambda a: extra("train").train(a.kind, a.config, a.data, a.out))


def add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write a verified model bundle from checkpoints (extra: export)",
        description="Export checkpoints to ONNX, compare each network with its original, and write a model bundle.",
    )
    export.add_argument(
        "checkpoints",
        type=Path,
        metavar="CHECKPOINTS",
        help="folder with {face,speech,fusion}.safetensors, or a YAML file that describes custom models",
    )
    export.add_argument("--out", type=Path, required=True, metavar="BUNDLE_DIR")
    export.add_argument(
        "--data", type=Path, metavar="DIR", help="data sets for comparison and calibration (required for checkpoints)"
    )
    export.add_argument(
        "--formats",
        default="onnx",
        type=names("onnx", "openvino", "batch"),
        metavar="LIST",
        help="onnx; openvino adds IR, batch adds files with a dynamic batch size",
    )
    _add_quantization(export)
    export.add_argument(
        "--table", type=Path, metavar="DIR", help="measure every variant on this machine, into DIR/forms.json and .md"
    )
    export.add_argument("--full", action="store_true", help="include several thread counts in the table")
    export.add_argument("--json", type=Path, metavar="FILE", help="write the measured figures to this file")
    export.set_defaults(command=_export)


def _add_quantization(export: Any) -> None:
    export.add_argument("--precision", default="fp32,int8", type=names("fp32", "int8"), metavar="LIST", help="fp32,int8")
    export.add_argument(
        "--max-drop", type=positive, default=0.5, metavar="PP", help="accuracy that int8 may lose, in percentage points (0.5)"
    )
    export.add_argument(
        "--min-agreement",
        type=positive,
        default=97.0,
        metavar="PERCENT",
        help="share of inputs on which int8 and float32 must agree (97)",
    )
    export.add_argument(
        "--calibration-samples",
        type=whole(16),
        default=256,
        metavar="N",
        help="training inputs that calibrate the int8 ranges (256)",
    )
    export.add_argument(
        "--calibration",
        default=CALIBRATION,
        type=names(*CALIBRATION.split(",")),
        metavar="LIST",
        help=f"calibration methods for int8, tried in turn ({CALIBRATION})",
    )


def _export(arguments: argparse.Namespace) -> int:
    run = extra("export")
    options = run.Options(
        arguments.formats,
        arguments.precision,
        arguments.max_drop,
        arguments.calibration_samples,
        arguments.calibration,
        arguments.table,
        arguments.full,
        arguments.min_agreement / 100,
    )
    return int(run.export(arguments.checkpoints, arguments.out, arguments.data, options, arguments.json))


def add_sign(commands: Any) -> None:
    sign = commands.add_parser(
        "sign",
        help="sign a model bundle (extra: signed)",
        description="Sign a bundle with an Ed25519 key (openssl genpkey -algorithm ed25519). A run whose configuration names "
        "the public key as bundle_key refuses all other bundles.",
    )
    sign.add_argument("bundle", type=Path, metavar="BUNDLE_DIR")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key, PEM without a password")
    sign.set_defaults(command=_sign)


def _sign(arguments: argparse.Namespace) -> int:
    bundle = lazy("inference.bundle")
    bundle.load(arguments.bundle, required=())  # verifies it first
    print(bundle.signature.sign(arguments.bundle, bundle.BUNDLE_FILE, arguments.key))
    return 0
