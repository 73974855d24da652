"""The `moodring` command. A subcommand builds its objects and calls them; heavy packages are imported only where asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moodring import __version__, interrupts
from moodring.arguments import names, port, positive, whole
from moodring.errors import MoodringError, UsageError, without_credentials
from moodring.evaluation.options import add_evaluate

PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATION = "minmax,percentile,entropy"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted."""
    arguments = parser().parse_args(argv)
    # One thread is enough for matrices of this size, and BLAS would otherwise spin up one per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    interrupts.install()
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("moodring: interrupted", file=sys.stderr)
        return interrupts.INTERRUPTED
    except MoodringError as error:
        print(f"moodring: {without_credentials(str(error))}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  what is left to flush has no reader
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"moodring: {where}{error.strerror or error}; name a place that this user may use and that has room",
            file=sys.stderr,
        )
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = argparse.ArgumentParser(
        prog="moodring",
        description="Fuse facial and vocal expression into a stream of events, on this machine, in milliseconds.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"moodring {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_replay(commands)
    _add_report(commands)
    _add_devices(commands)
    _add_doctor(commands)
    _add_bench(commands)
    _add_service(commands)
    _add_data(commands)
    _add_train(commands)
    _add_export(commands)
    _add_sign(commands)
    add_evaluate(commands)
    return top


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="watch and listen, or read a recording, and publish events",
        description="Read a recording, a stream, or this machine's camera and microphone, and publish fused expression events. "
        "On a terminal a panel shows them; piped, they come as JSON lines on standard output. Messages go to standard error.",
    )
    run.add_argument("source", nargs="?", metavar="SOURCE", help="media file or stream URL with picture and/or sound")
    run.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration (see configs/laptop.yaml)")
    run.add_argument("--video", metavar="SRC", help="picture only from here: file, URL, camera path or index, or 'none'")
    run.add_argument("--audio", metavar="SRC", help="sound only from here: file, URL, microphone name, or 'none'")
    run.add_argument("--events", metavar="FILE", help="write events to FILE as JSON lines; '-' is standard output")
    run.add_argument("--seconds", type=positive, metavar="N", help="stop after N seconds")
    run.add_argument(
        "--pace",
        choices=("realtime", "max"),
        default="realtime",
        help="how fast to read a recording (default: realtime)",
    )
    run.add_argument("--page", action="store_true", help="show what is sensed in a browser on this machine")
    _page_port(run)
    run.add_argument("--preview", action="store_true", help="let the page show the camera's picture too, on this machine alone")
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from moodring.run.session import run  # noqa: PLC0415

    return run(arguments)


def _page_port(command: Any) -> None:
    command.add_argument("--page-port", type=port, metavar="N", help="where the page listens (8737); 0 is any free port")


def _add_replay(commands: Any) -> None:
    replay = commands.add_parser(
        "replay",
        help="play a recorded event file on the page",
        description="Play a file of events, as `moodring run --events FILE` writes it, on the page. Ctrl-C ends it.",
    )
    replay.add_argument("events", type=Path, metavar="EVENTS.jsonl")
    replay.add_argument("--page", action="store_true", required=True, help="show it in a browser on this machine")
    _page_port(replay)
    replay.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration, for what stands under page:")
    replay.add_argument("--speed", type=positive, default=1.0, metavar="X", help="times as fast (1)")
    replay.set_defaults(command=lambda a: importlib.import_module("moodring.dashboard.replay").main(a))


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="summarise a recorded event file on one page",
        description="Write a summary of a file of events: timeline, shares, transitions, drops and devices, in one HTML file.",
    )
    report.add_argument("events", type=Path, metavar="EVENTS.jsonl")
    report.add_argument("--html", type=Path, required=True, metavar="OUT", help="the file to write")
    report.set_defaults(command=lambda a: importlib.import_module("moodring.dashboard.report").write_report(a.events, a.html))


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure what the daemon costs on this machine, and how fast it answers",
        description="Measure each stage and the whole chain on this machine, offline, in about a minute.",
        epilog="Stages: decode (JPEG to grey), detect (follow the known faces), search (slices of the picture, for new ones; "
        "few frames pay for any), crop (the rest of a frame's work), face (its network), mfcc (a tenth of a "
        "second of sound to cepstra, and who speaks), speech (its network on 3 s), fusion, publish (a line of JSON). CPU "
        "is thread time in microseconds a call. hot: as fast as it goes, caches warm. paced: at the pace of life, through "
        "the daemon's own threads, caches cold between calls. floor: the bare kernel with nothing of ours round it; the "
        "multiple of their sum is what we add. answered: from a frame's capture to what the face network says of it. An "
        "event comes at the next tick, five a second, and tells of the newest capture. Warm-up is left out; process after "
        "process measures until the last three agree within a tenth on every ratio, else the figures are marked as noisy, "
        "as they are where other programs were at work or the thirds of the paced part differ. Compare ratios between "
        "machines and days, not microseconds.",
    )
    bench.add_argument("source", nargs="?", metavar="SOURCE", help="media file with a face (default: the bundled clip)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    bench.add_argument("--seconds", type=positive, default=20.0, metavar="N", help="length of the paced part (20)")
    bench.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the one that ships)")
    bench.add_argument("--live", action="store_true", help="this machine's camera and microphone for the paced part")
    bench.add_argument("--peers", action="store_true", help="also measure what people use otherwise (extra: bench)")
    bench.set_defaults(command=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    peers = importlib.import_module("moodring.diagnostics.peers.run").measure if arguments.peers else None
    return int(importlib.import_module("moodring.diagnostics.bench.run").bench(arguments, peers))


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what works on this machine and what to do about the rest",
        description="Check devices, libraries, cascade, bundle, backends and permissions.",
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the one that ships)")
    doctor.add_argument(
        "--tune",
        action="store_true",
        help="measure which form of each network is the fastest here, for `inference.backend: auto`",
    )
    doctor.set_defaults(
        command=lambda a: importlib.import_module("moodring.diagnostics.doctor").main(
            json=a.json, bundle=a.bundle, tuned=a.tune
        )
    )


def _add_devices(commands: Any) -> None:
    devices = commands.add_parser(
        "devices",
        help="list this machine's cameras and microphones",
        description="List cameras and microphones, what --video and --audio call them, and what keeps them from being used.",
    )
    devices.add_argument("--json", action="store_true", help="print them as JSON")
    devices.set_defaults(command=lambda a: importlib.import_module("moodring.diagnostics.devices").main(as_json=a.json))


def _add_service(commands: Any) -> None:
    service = commands.add_parser(
        "service",
        help="run as a service of systemd",
        description="Install moodring as a hardened service of systemd that starts at every boot, ask how it is, or remove it.",
    )
    service.add_argument("action", choices=("install", "status", "remove"))
    service.add_argument("--config", type=Path, metavar="FILE", help="the configuration that the service runs with")
    service.set_defaults(command=_service)


def _service(arguments: argparse.Namespace) -> int:
    unit = importlib.import_module("moodring.service.unit")
    if arguments.action == "install":
        return int(unit.install(arguments.config))
    return int(unit.status() if arguments.action == "status" else unit.remove())


def _add_data(commands: Any) -> None:
    data = commands.add_parser(
        "data",
        help="list the data sets, or check a folder of them",
        description="Say where each data set is to be had and how it is laid out, or check what a folder holds of them.",
    )
    kinds = data.add_subparsers(required=True, metavar="WHAT")
    listed = kinds.add_parser("list", help="where each is to be had, licence, layout, counts and checksums")
    listed.set_defaults(command=lambda _: importlib.import_module("moodring.evaluation.data.commands").list_sets())
    verify = kinds.add_parser("verify", help="count and read what a folder holds")
    verify.add_argument("folder", type=Path, metavar="DIR")
    verify.set_defaults(command=lambda a: importlib.import_module("moodring.evaluation.data.commands").verify_folder(a.folder))


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a branch or the fusion (extra: train)",
        description="Train one network from a recipe. Interrupted runs resume; Ctrl-C ends cleanly and keeps the best weights.",
    )
    train.add_argument("kind", choices=("face", "speech", "fusion"))
    train.add_argument("--config", type=Path, required=True, metavar="FILE", help="recipe (see configs/train/)")
    train.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder: checkpoints, metrics, pictures")
    train.set_defaults(command=lambda a: _extra("train").train(a.kind, a.config, a.data, a.out))


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write a verified model bundle from checkpoints (extra: export)",
        description="Export checkpoints to ONNX, compare each network with its original, and write a model bundle.",
    )
    export.add_argument(
        "checkpoints",
        type=Path,
        metavar="CHECKPOINTS",
        help="folder with {face,speech,fusion}.safetensors, or a YAML file that describes networks of your own",
    )
    export.add_argument("--out", type=Path, required=True, metavar="BUNDLE_DIR")
    export.add_argument("--data", type=Path, metavar="DIR", help="real inputs to compare on (checkpoints need it)")
    export.add_argument(
        "--formats",
        default="onnx",
        type=names("onnx", "openvino", "batch"),
        metavar="LIST",
        help="onnx; and openvino for IR, batch for files that take several inputs at once",
    )
    export.add_argument("--precision", default="fp32,int8", type=names("fp32", "int8"), metavar="LIST", help="fp32,int8")
    export.add_argument(
        "--max-drop", type=positive, default=0.5, metavar="PP", help="points of accuracy that int8 may cost (0.5)"
    )
    export.add_argument(
        "--min-agreement",
        type=positive,
        default=97.0,
        metavar="PERCENT",
        help="inputs on which int8 must name float32's label (97)",
    )
    export.add_argument(
        "--calibration-samples", type=whole(16), default=256, metavar="N", help="training inputs that set int8's ranges (256)"
    )
    export.add_argument(
        "--calibration",
        default=CALIBRATION,
        type=names(*CALIBRATION.split(",")),
        metavar="LIST",
        help=f"ways to set int8's ranges, tried in turn ({CALIBRATION})",
    )
    export.add_argument(
        "--table", type=Path, metavar="DIR", help="measure every form on this machine, into DIR/forms.json and .md"
    )
    export.add_argument("--full", action="store_true", help="in the table, other numbers of threads than one as well")
    export.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here")
    export.set_defaults(command=_export)


def _add_sign(commands: Any) -> None:
    sign = commands.add_parser(
        "sign",
        help="sign a model bundle (extra: signed)",
        description="Sign a bundle with an Ed25519 key (openssl genpkey -algorithm ed25519). A run whose configuration names "
        "the public key as bundle_key takes no other bundle.",
    )
    sign.add_argument("bundle", type=Path, metavar="BUNDLE_DIR")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key, PEM without a password")
    sign.set_defaults(command=_sign)


def _sign(arguments: argparse.Namespace) -> int:
    bundle = importlib.import_module("moodring.inference.bundle")
    bundle.load(arguments.bundle, needed=())  # nobody signs what is broken
    print(bundle.signature.sign(arguments.bundle, bundle.DOCUMENT, arguments.key))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    run = _extra("export")
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


def _extra(name: str) -> Any:
    """Import moodring.train.run or moodring.export.run, or say which extra is missing."""
    try:
        return importlib.import_module(f"moodring.{name}.run")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "moodring":
            raise
        raise UsageError(f"`moodring {name}` needs {error.name}: pip install 'moodring[{name}]'") from error


if __name__ == "__main__":
    sys.exit(main())
