"""The `moodring` command. Each subcommand builds frozen options and calls one function; packages are imported on demand."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moodring import __version__, process
from moodring.arguments import frozen, names, port, positive, whole
from moodring.errors import MoodringError, UsageError, without_credentials
from moodring.evaluation.options import add_evaluate

CALIBRATION = "minmax,percentile,entropy"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted."""
    arguments = parser().parse_args(argv)
    # One thread is enough for matrices of this size; by default BLAS starts one per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    process.install()
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("moodring: interrupted", file=sys.stderr)
        return process.INTERRUPTED
    except MoodringError as error:
        print(f"moodring: {without_credentials(str(error))}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  the remaining buffer has no reader
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"moodring: {where}{error.strerror or error}; check that the path exists, is writable and that the disk has space",
            file=sys.stderr,
        )
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="moodring",
        description="Fuse facial and vocal expression into a stream of events, on this machine and in real time.",
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


def _module(name: str) -> Any:
    """Import a module of moodring when its command runs, so that the other commands start without it."""
    return importlib.import_module(f"moodring.{name}")


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="recognise expression from devices or a recording, and publish events",
        description="Read a recording, a network stream, or the camera and microphone of this machine, and publish fused "
        "expression events. A terminal shows them in a panel; otherwise they are written to standard output as JSON lines. "
        "Messages go to standard error.",
    )
    run.add_argument("source", nargs="?", metavar="SOURCE", help="media file or stream URL with video, sound or both")
    run.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration (see configs/laptop.yaml)")
    run.add_argument("--video", metavar="SRC", help="source of video: file, URL, camera path or index, or 'none'")
    run.add_argument("--audio", metavar="SRC", help="source of sound: file, URL, microphone name, or 'none'")
    run.add_argument("--events", metavar="FILE", help="write events to FILE as JSON lines; '-' is standard output")
    run.add_argument("--seconds", type=positive, metavar="N", help="stop after N seconds")
    run.add_argument(
        "--pace",
        choices=("realtime", "max"),
        default="realtime",
        help="how fast to read a recording (default: realtime)",
    )
    run.add_argument("--page", action="store_true", help="show events in a browser on this machine")
    _page_port(run)
    run.add_argument("--preview", action="store_true", help="also show the camera image on the page, on this machine only")
    run.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    options = frozen(_module("run.options").RunOptions, arguments)
    return int(_module("run.session").run(options, _open_page))


def _open_page(*arguments: Any) -> Any:
    """Open the page only where the configuration or the command line asks for it: asyncio costs start-up time and memory."""
    return _module("dashboard.opening").open_page(*arguments)


def _page_port(command: Any) -> None:
    command.add_argument("--page-port", type=port, metavar="N", help="port of the page (8737); 0 is any free port")


def _add_replay(commands: Any) -> None:
    replay = commands.add_parser(
        "replay",
        help="play a recorded event file on the page",
        description="Play an event file, written by `moodring run --events FILE`, on the page. Ctrl-C ends it.",
    )
    replay.add_argument("events", type=Path, metavar="EVENTS.jsonl")
    replay.add_argument("--page", action="store_true", required=True, help="show it in a browser on this machine")
    _page_port(replay)
    replay.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration; its page: section is used")
    replay.add_argument("--speed", type=positive, default=1.0, metavar="X", help="speed relative to real time (1)")
    replay.set_defaults(command=lambda a: _module("dashboard.replay").replay(a.events, a.config, a.page_port, a.speed))


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="summarise a recorded event file in one HTML file",
        description="Write a summary of an event file to one HTML file: timeline, shares, transitions, drops and devices.",
    )
    report.add_argument("events", type=Path, metavar="EVENTS.jsonl")
    report.add_argument("--html", type=Path, required=True, metavar="OUT", help="the file to write")
    report.set_defaults(command=lambda a: _module("dashboard.report").write_report(a.events, a.html))


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure CPU cost and latency on this machine",
        description="Measure each stage and the whole chain on this machine, offline, in about a minute.",
        epilog="Stages: decode (JPEG to grey), detect (track the known faces), search (scan a part of the frame for new faces; "
        "few frames need it), crop (the remaining work on a frame), face (its network), mfcc (cepstra and voice activity of "
        "0.1 s of sound), speech (its network on 3 s), fusion, publish (one line of JSON). CPU is thread CPU time in "
        "microseconds a call. hot: at full speed, with warm caches. paced: in real time, through the daemon's threads, with "
        "cold caches. floor: the kernel baseline, the bare library calls; ratios are relative to their sum. answered: from "
        "the capture of a frame to its face output. An event is published at the next tick, five a second. Warm-up is left "
        "out. Processes are measured until the last three agree within 10 % on every ratio; otherwise, or when other "
        "programs used the CPU or the thirds of the paced part differ, the figures are marked as noisy. Compare ratios, not "
        "microseconds, between machines and days.",
    )
    bench.add_argument("source", nargs="?", metavar="SOURCE", help="media file that shows a face (default: the bundled clip)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    bench.add_argument("--seconds", type=positive, default=20.0, metavar="N", help="duration of the paced part (20)")
    bench.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the bundled one)")
    bench.add_argument("--live", action="store_true", help="use the camera and microphone of this machine for the paced part")
    bench.add_argument("--peers", action="store_true", help="also measure other implementations (extra: bench)")
    bench.set_defaults(command=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    run = _module("diagnostics.bench.run")
    peers = None
    if arguments.peers:
        eager = _module("export.eager").eager_calls  # PyTorch itself is a peer
        peers = functools.partial(_module("diagnostics.peers.run").measure, eager)
    return int(run.bench(frozen(run.BenchOptions, arguments), peers))


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check what works on this machine and how to repair the rest",
        description="Check devices, libraries, cascade, bundle, backends and permissions.",
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--bundle", default="default", metavar="DIR", help="model bundle (default: the bundled one)")
    doctor.add_argument(
        "--tune",
        action="store_true",
        help="find the fastest variant of each network on this machine, for `inference.backend: auto`",
    )
    doctor.set_defaults(command=lambda a: _module("diagnostics.doctor").main(json=a.json, bundle=a.bundle, tuned=a.tune))


def _add_devices(commands: Any) -> None:
    devices = commands.add_parser(
        "devices",
        help="list the cameras and microphones of this machine",
        description="List cameras and microphones, their names for --video and --audio, and why some cannot be used.",
    )
    devices.add_argument("--json", action="store_true", help="print them as JSON")
    devices.set_defaults(command=lambda a: _module("diagnostics.devices").main(as_json=a.json))


def _add_service(commands: Any) -> None:
    service = commands.add_parser(
        "service",
        help="run as a systemd service",
        description="Install, query or remove moodring as a hardened systemd service that starts at every boot.",
    )
    service.add_argument("action", choices=("install", "status", "remove"))
    service.add_argument("--config", type=Path, metavar="FILE", help="configuration of the service")
    service.set_defaults(command=_service)


def _service(arguments: argparse.Namespace) -> int:
    unit = _module("service.unit")
    if arguments.action == "install":
        return int(unit.install(arguments.config))
    return int(unit.status() if arguments.action == "status" else unit.remove())


def _add_data(commands: Any) -> None:
    data = commands.add_parser(
        "data",
        help="list the data sets, or check a folder of them",
        description="List where each data set is available from and its layout, or check the data sets in a folder.",
    )
    kinds = data.add_subparsers(required=True, metavar="WHAT")
    listed = kinds.add_parser("list", help="source, licence, layout, counts and checksums of each")
    listed.set_defaults(command=lambda _: _module("evaluation.data.commands").list_datasets())
    verify = kinds.add_parser("verify", help="count and read the data sets in a folder")
    verify.add_argument("folder", type=Path, metavar="DIR")
    verify.set_defaults(command=lambda a: _module("evaluation.data.commands").verify_folder(a.folder))


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a branch or the fusion (extra: train)",
        description="Train one network from a recipe. An interrupted run resumes; Ctrl-C ends it and keeps the best weights.",
    )
    train.add_argument("kind", choices=("face", "speech", "fusion"))
    train.add_argument("--config", type=Path, required=True, metavar="FILE", help="recipe (see configs/train/)")
    train.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder: checkpoints, metrics, plots")
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
    export.add_argument(
        "--table", type=Path, metavar="DIR", help="measure every variant on this machine, into DIR/forms.json and .md"
    )
    export.add_argument("--full", action="store_true", help="include several thread counts in the table")
    export.add_argument("--json", type=Path, metavar="FILE", help="write the measured figures to this file")
    export.set_defaults(command=_export)


def _add_sign(commands: Any) -> None:
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
    bundle = _module("inference.bundle")
    bundle.load(arguments.bundle, required=())  # verifies it first
    print(bundle.signature.sign(arguments.bundle, bundle.BUNDLE_FILE, arguments.key))
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
    """Return moodring.train.run or moodring.export.run. Raises UsageError where an extra is missing."""
    try:
        return _module(f"{name}.run")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "moodring":
            raise
        raise UsageError(f"`moodring {name}` needs {error.name}: pip install 'moodring[{name}]'") from error


if __name__ == "__main__":
    sys.exit(main())
